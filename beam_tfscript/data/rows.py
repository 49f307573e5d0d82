"""Rows to Arrow and back, a column at a time.

Input: a list of rows (dicts, NamedTuples, numpy records, or any objects with attributes, in any mixture) and their
schema. Output: an Arrow batch of the schema's types, or a `RowError` that names the first row and column that do not
fit; and from a batch, tuples in the schema's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from beam_tfscript.data.column import Column
from beam_tfscript.data.conversion_errors import ConversionError, find_first, find_ranges, shorten
from beam_tfscript.data.from_arrow import Timestamps, arrow_to_values
from beam_tfscript.data.near_names import near_names
from beam_tfscript.data.schema import Schema
from beam_tfscript.data.to_arrow import values_to_arrow
from beam_tfscript.errors import RowError

__all__ = [
    "record_batch_to_columns",
    "record_batch_to_tuples",
    "rows_to_record_batch",
    "split_rows",
]

# Wide rows are converted in blocks that stay in the processor's cache: with 300 columns, a value takes four times as
# long in a block of 4,096 rows as in one of 200. But each block has a fixed cost per column.
_BLOCK_VALUES = 1 << 17
_MIN_BLOCK_ROWS = 128
# With this many columns or more, it is faster to make a tuple of each row first.
_WIDE_COLUMNS = 16


def rows_to_record_batch(rows: Sequence[Any], schema: Schema) -> pa.RecordBatch:
    """Convert rows to an Arrow batch.

    Args:
      rows: dicts, NamedTuples, numpy records or objects with attributes; columns that the schema does not name are
        left out.
      schema: the columns to take.

    Returns:
      A batch of `schema.to_arrow()`.

    Raises:
      RowError: a row lacks a column, or has a value there that does not fit its type exactly.
    """
    step = max(_MIN_BLOCK_ROWS, _BLOCK_VALUES // len(schema))
    if len(rows) <= step:
        return _block_to_record_batch(rows, schema, 0)
    blocks = [_block_to_record_batch(rows[at : at + step], schema, at) for at in range(0, len(rows), step)]
    return pa.Table.from_batches(blocks).combine_chunks().to_batches()[0]


def _block_to_record_batch(rows: Sequence[Any], schema: Schema, first_index: int) -> pa.RecordBatch:
    failures: list[tuple[int, Column, ConversionError]] = []
    arrays = []
    types = set(map(type, rows))
    taken = _take_columns(rows, schema, types)
    for position, column in enumerate(schema):
        try:
            values = taken[position] if taken else _take_column(rows, column.name, types)
            arrays.append(values_to_arrow(values, column))
        except ConversionError:
            found = find_first(len(rows), _check(rows, column))
            if found:
                failures.append((found[0], column, found[1]))
    if failures:
        index, column, error = min(failures, key=lambda failure: failure[0])
        raise row_error(rows[index], first_index + index, column, error)
    return pa.RecordBatch.from_arrays(arrays, schema=schema.to_arrow())


def split_rows(rows: Sequence[Any], schema: Schema) -> tuple[pa.RecordBatch, list[tuple[int, RowError]]]:
    """Convert the rows that fit.

    Args:
      rows: as in `rows_to_record_batch`.
      schema: the columns to take.

    Returns:
      The batch of the rows that fit, in order, and the index and the error of each row that does not.
    """
    try:
        return rows_to_record_batch(rows, schema), []
    except RowError:
        pass  # the search below finds the rows that do not fit, column by column
    errors: dict[int, RowError] = {}
    for column in schema:
        for index, error in find_ranges(len(rows), _check(rows, column))[1]:
            errors.setdefault(index, row_error(rows[index], index, column, error))
    fitting = [row for index, row in enumerate(rows) if index not in errors]
    return rows_to_record_batch(fitting, schema), sorted(errors.items())


def record_batch_to_columns(
    batch: pa.RecordBatch, schema: Schema, *, timestamps: Timestamps | None = None
) -> list[list[Any]]:
    """Convert a batch to one list of Python values per column; arguments as for `record_batch_to_tuples`."""
    return [arrow_to_values(array, column, timestamps=timestamps) for array, column in zip(batch.columns, schema)]


def record_batch_to_tuples(
    batch: pa.RecordBatch, schema: Schema, *, timestamps: Timestamps | None = None
) -> list[tuple[Any, ...]]:
    """Convert a batch to one tuple per row.

    Args:
      batch: a batch of `schema.to_arrow()`.
      schema: the batch's columns, in the order of the tuples.
      timestamps: makes the values of timestamp columns from a list of integers and a unit; None leaves them as
        integers in the column's unit.

    Returns:
      Tuples of Python's own values; tensors are numpy arrays, arrays are lists.
    """
    return list(zip(*record_batch_to_columns(batch, schema, timestamps=timestamps)))


def row_error(row: Any, index: int, column: Column, error: ConversionError) -> RowError:
    """Return the error for one value of one row."""
    position = f"Row #{index}, column {column.name!r} ({column.type})"
    if isinstance(error, _MissingColumnError):
        return RowError(f"{position}: {error}", index=index, column=column.name)
    (value,) = _take_column([row], column.name, {type(row)})
    return RowError(f"{position}: {shorten(value)} {error}.", index=index, column=column.name)


class _MissingColumnError(ConversionError):
    """A row without the column; the message is a sentence of its own."""


def _check(rows: Sequence[Any], column: Column) -> Callable[[int, int], pa.Array]:
    def convert(start: int, stop: int) -> pa.Array:
        part = rows[start:stop]
        return values_to_arrow(_take_column(part, column.name, set(map(type, part))), column)

    return convert


def _take_columns(rows: Sequence[Any], schema: Schema, types: set[type]) -> list[Any] | None:
    """Return all columns of wide rows of one type, read row by row; None where that is slower, or a row lacks one."""
    if len(schema) < _WIDE_COLUMNS or len(types) != 1:
        return None
    (row_type,) = types
    try:
        return list(zip(*map(_getter(row_type, *schema.names), rows)))
    except (KeyError, AttributeError, ValueError):
        return None  # `_take_column` finds the missing column


def _take_column(rows: Sequence[Any], name: str, types: set[type]) -> list[Any]:
    """Return each row's value of a column; `types` are the types of the rows."""
    try:
        if len(types) == 1:
            (row_type,) = types
            return list(map(_getter(row_type, name), rows))
        getters = {found: _getter(found, name) for found in types}
        return [getters[type(row)](row) for row in rows]
    except (KeyError, AttributeError, ValueError) as error:
        if len(rows) != 1:
            raise _MissingColumnError("is missing in some rows") from error
        known = _names_of(rows[0])
        raise _MissingColumnError(
            f"the row has no such column{near_names(name, known)} For a null, put None there."
        ) from error


def _getter(row_type: type, *names: str) -> Callable[[Any], Any]:
    if issubclass(row_type, (Mapping, np.void)):
        return itemgetter(*names)
    fields = getattr(row_type, "_fields", None)
    if issubclass(row_type, tuple) and fields is not None:
        # By position: by name, a column called `count` or `index` would be the tuple's method.
        return itemgetter(*map(fields.index, names))
    return attrgetter(*names)


def _names_of(row: Any) -> list[str]:
    if isinstance(row, Mapping):
        return [str(name) for name in row]
    if isinstance(row, np.void):
        return list(row.dtype.names or ())
    fields = getattr(row, "_fields", None)
    return list(fields) if fields is not None else list(getattr(row, "__dict__", ()))

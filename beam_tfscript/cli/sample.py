"""Sample of a file: its first rows, and its columns, given or guessed.

In come a path, URI or pattern, and the input schema if the user gave one. Out goes a `Sample`: rows that the encoder
takes, and a schema that can be pasted as `input_schema`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from tfx_bsl.cc.tfx_bsl_extension.coders import ExampleToNumpyDict

from beam_tfscript.cli import formats
from beam_tfscript.data.arrow_fields import column_from_arrow
from beam_tfscript.data.column import ROW_LENGTHS_SUFFIX, Column
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError, SchemaError
from beam_tfscript.io.arrow_readers import read_batches
from beam_tfscript.io.found_files import first_file, opened
from beam_tfscript.tables.first_rows import read_first_rows

# Number of rows that columns are guessed from. In fewer rows, a column is more often null, and a null tells no type.
GUESS_ROWS = 1000


@dataclasses.dataclass(frozen=True)
class Sample:
    """First rows of a file.

    Attributes:
      path: path of the file.
      schema: the columns; None for records that are not Examples, which the script gets unread.
      is_guessed: True if the columns were guessed.
      notes: remarks on the guess, for the user.
      rows: serialized Examples, or an Arrow table.
    """

    path: str
    schema: Schema | None
    is_guessed: bool
    notes: list[str]
    rows: list[bytes] | pa.Table

    @property
    def element_type(self) -> type:
        """Type of the elements that a pipeline would read from the file."""
        return bytes if isinstance(self.rows, list) else pa.RecordBatch


def take_sample(pattern: str, file_format: str, schema: Schema | None, *, rows: int) -> Sample:
    """Read the first rows of the first file that a pattern matches.

    Args:
      pattern: a path, URI or pattern.
      file_format: a key of `formats.SUFFIXES`, or `formats.TABLE`.
      schema: the columns; None to guess them.
      rows: maximum number of rows.

    Raises:
      ArgumentError: no file matches, or the file has no rows.
      RowError: the file cannot be read, or has another format.
      SchemaError: the file lacks one of the columns, or has no column that can be used.
    """
    if file_format == formats.TABLE:
        return _sample_table(pattern, schema, rows)
    path = first_file(pattern)
    notes: list[str] = []
    is_guessed = schema is None
    found: list[bytes] | pa.Table
    if file_format == "tfrecord":
        records = formats.read_examples(path, max(rows, GUESS_ROWS) if is_guessed else rows)
        if is_guessed:
            schema = guess_from_examples(records, notes)
        found = records[:rows]
    else:
        if schema is None:
            schema = guess_from_arrow(_read_table(path, file_format, None, max(rows, GUESS_ROWS)), notes)
        found = _read_table(path, file_format, schema, rows)
    if not len(found):
        raise ArgumentError(f"{path} has no rows: give a file with at least one row.")
    return Sample(path, schema, is_guessed and schema is not None, notes, found)


def _sample_table(uri: str, schema: Schema | None, rows: int) -> Sample:
    """Read the first rows of a table, whose columns are known."""
    found = read_first_rows(uri, schema, rows)
    if not len(found):
        raise ArgumentError(f"{uri} has no rows: give a table with at least one row.")
    return Sample(uri, schema or Schema.from_arrow(found.schema), False, [], found)


def guess_from_arrow(table: pa.Table, notes: list[str]) -> Schema:
    """Return the columns of Arrow data; add notes on columns that are left out or whose type is unknown.

    Raises:
      SchemaError: no column can be used.
    """
    columns = []
    for field in table.schema:
        if pa.types.is_null(field.type):
            notes.append(f"{field.name} has no value in the first rows, and is taken for a string.")
            field = field.with_type(pa.string())
        try:
            columns.append(column_from_arrow(field))
        except SchemaError as error:
            notes.append(f"{field.name} is left out: {error}")
    return Schema(tuple(columns))


def guess_from_examples(records: list[bytes], notes: list[str]) -> Schema | None:
    """Return the columns of serialized Examples, by their features; None if the records are not Examples."""
    features: dict[str, list[Any]] = {}
    for record in records:
        try:
            example = ExampleToNumpyDict(record)
        except (RuntimeError, ValueError):
            notes.append(
                "The records are not tf.train.Examples: the script gets them unread, such as in config.dataset_file."
            )
            return None
        for name, values in example.items():
            features.setdefault(name, []).append(values)
    columns = []
    for name, found in sorted(features.items()):
        owner = name.removesuffix(ROW_LENGTHS_SUFFIX)
        if owner != name and owner in features:
            continue
        values = [value for value in found if value is not None and len(value)]
        if not values:
            notes.append(f"{name} has no value in the first rows, and is left out.")
            continue
        is_ragged = name + ROW_LENGTHS_SUFFIX in features
        shape = (None, None) if is_ragged else _shape(values, is_everywhere=len(values) == len(records))
        columns.append(Column(name, _kind(values), shape=shape))
    return Schema(tuple(columns)) if columns else None


def _kind(values: Iterable[np.ndarray]) -> str:
    """Return the type of a feature's values: bytes are strings if all of them are UTF-8."""
    first, *others = values
    if first.dtype.kind in "iu":
        return "bigint"
    if first.dtype.kind == "f":
        return "float"
    try:
        for value in itertools.chain(first, *others):
            value.decode("utf-8")
    except UnicodeDecodeError:
        return "varbinary"
    return "string"


def _shape(values: list[np.ndarray], *, is_everywhere: bool) -> tuple[int | None, ...]:
    lengths = set(map(len, values))
    if lengths == {1}:
        return ()
    # Two arrays of one length may be chance. Three or more, in every row, are most likely a tensor.
    return (lengths.pop(),) if len(lengths) == 1 and is_everywhere and len(values) > 2 else (None,)


def _read_table(path: str, file_format: str, schema: Schema | None, rows: int) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    with opened(path) as file:
        reader = read_batches(file, file_format, schema)
        try:
            while (missing := rows - sum(batch.num_rows for batch in batches)) > 0:
                batch = next(reader, None)
                if batch is None:
                    break
                batches.append(batch.slice(0, missing))
        finally:
            reader.close()
    if not batches:
        raise ArgumentError(f"{path} has no rows: give a file with at least one row.")
    # Where types are guessed, later batches may have others; the first type counts.
    same = list(itertools.takewhile(lambda batch: batch.schema == batches[0].schema, batches))
    return pa.Table.from_batches(same)

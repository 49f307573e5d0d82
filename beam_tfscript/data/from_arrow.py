"""One column's Arrow array to Python values.

Input: an Arrow array of the column's type. Output: a list with one Python value per row, None for null. Numbers are
Python's own, arrays are lists, and tensors are numpy arrays that are views of one buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from beam_tfscript.data.column import Column
from beam_tfscript.data.kinds import INTEGER_RANGES

__all__ = ["Timestamps", "arrow_to_values"]

# Function from integers (None for null) and their unit to the rows' timestamps.
Timestamps = Callable[[list[Any], str], list[Any]]

_NUMBERS = frozenset({*INTEGER_RANGES, "float", "double", "float64"})


def arrow_to_values(array: pa.Array, column: Column, *, timestamps: Timestamps | None = None) -> list[Any]:
    """Return the values of a column, one per row.

    Args:
      array: Arrow array of the column's type.
      column: name and type.
      timestamps: makes the values of timestamp columns; None leaves them as integers in the column's unit.
    """
    if column.is_scalar:
        return _scalars(array, column, timestamps)
    if column.is_tensor:
        values = _tensors(array, column, timestamps)
    elif column.kind == "timestamp":
        values = _lists(array, lambda flat: _scalars(flat, column, timestamps), depth=len(column.shape))
    else:
        return array.to_pylist()
    if array.null_count:
        for index in np.flatnonzero(array.is_null()).tolist():
            values[index] = None
    return values


def _scalars(array: pa.Array, column: Column, timestamps: Timestamps | None) -> list[Any]:
    if column.kind == "timestamp":
        integers = array.view(pa.int64()).to_pylist()
        return timestamps(integers, column.unit or "us") if timestamps else integers
    if column.kind in _NUMBERS and not array.null_count:
        return array.to_numpy().tolist()
    return array.to_pylist()


def _lists(array: pa.Array, convert: Callable[[pa.Array], list[Any]], *, depth: int) -> list[Any]:
    flat = array.flatten()
    values = _lists(flat, convert, depth=depth - 1) if depth > 1 else convert(flat)
    ends = np.cumsum(array.value_lengths().fill_null(0).to_numpy()).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends)]


def _tensors(array: pa.Array, column: Column, timestamps: Timestamps | None) -> list[Any]:
    flat = array
    for _ in column.shape:
        flat = flat.flatten()  # skips nulls
    if column.kind in _NUMBERS or column.kind == "boolean":
        block = flat.to_numpy(zero_copy_only=False)
    else:
        values = _scalars(flat, column, timestamps)
        block = np.empty(len(values), object)
        block[:] = values
    tensors = list(block.reshape(-1, *(size or 0 for size in column.shape)))
    if array.null_count:
        found = iter(tensors)
        return [next(found) if valid else None for valid in array.is_valid().to_pylist()]
    return tensors

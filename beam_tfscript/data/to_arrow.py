"""One column's Python values to an Arrow array.

Input: a list of Python values, None for null, and their column. Output: an Arrow array of the column's type, or a
`ConversionError`. Only exact casts are made: no floats in integer columns, no texts as numbers, no booleans as
integers, nothing out of range.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from beam_tfscript.data.arrow_types import arrow_type, list_array, tensor_array
from beam_tfscript.data.column import Column
from beam_tfscript.data.conversion_errors import ConversionError, with_article
from beam_tfscript.data.scalars_to_arrow import (
    ARROW_ERRORS,
    check_lengths,
    check_types,
    floats_to_arrow,
    numbers_to_arrow,
    scalars_to_arrow,
)

__all__ = ["values_to_arrow"]

_PLAIN_LISTS = {list, tuple, type(None)}
_BY_VALUE = ("date", "time", "timestamp", "decimal")
_NOT_LISTS = (str, bytes, bytearray, memoryview)


def values_to_arrow(values: list[Any], column: Column) -> pa.Array:
    """Convert the values of a column.

    Args:
      values: one value per row; None is null.
      column: name and type.

    Raises:
      ConversionError: a value does not fit the column's type.
    """
    if column.is_scalar:
        array = scalars_to_arrow(values, column)
        if array.null_count and not column.nullable:
            raise ConversionError("is null, but the column is `not null`; write None only into nullable columns")
        return array
    if column.is_array and set(map(type, values)) <= _PLAIN_LISTS and column.kind not in _BY_VALUE:
        array = _plain_lists(values, column)
        if array is not None:
            return array
    valid = _valid(values, column)
    if column.is_tensor:
        return _tensors(values if valid is None else [v for v in values if v is not None], column, valid)
    return _arrays(values if valid is None else [() if v is None else v for v in values], column, valid)


def _plain_lists(values: list[Any], column: Column) -> pa.Array | None:
    """Convert lists of numbers, booleans, texts or bytes in one call; return None where some of them do not fit."""
    arrow = arrow_type(column)
    if column.kind in ("float", "double"):
        array = floats_to_arrow(values, column, arrow)
    else:
        try:
            check_types(set(map(type, chain.from_iterable(filter(None, values)))), column)
            array = pa.array(values, arrow)
        except (ConversionError, *ARROW_ERRORS):
            return None
    if array is None or array.null_count and not column.nullable:
        return None
    elements = array.flatten()
    try:
        check_lengths(elements, column)
    except ConversionError:
        return None
    return None if elements.null_count else array


def _valid(values: list[Any], column: Column) -> np.ndarray | None:
    """Return a bool array, False for null; None where no value is null."""
    if None not in set(map(_none_or_type, values)):
        return None
    if not column.nullable:
        raise ConversionError("is null, but the column is `not null`; write None only into nullable columns")
    return np.fromiter((value is not None for value in values), bool, len(values))


def _none_or_type(value: Any) -> type | None:
    return None if value is None else type(value)


def _arrays(values: list[Any], column: Column, valid: np.ndarray | None) -> pa.Array:
    lengths, flat = _flatten(values)
    if column.is_ragged:
        inner_lengths, flat = _flatten(flat)
        return list_array(lengths, list_array(inner_lengths, _elements(flat, column), None), valid)
    return list_array(lengths, _elements(flat, column), valid)


def _tensors(values: list[Any], column: Column, valid: np.ndarray | None) -> pa.Array:
    flat: Any = values
    for size in column.shape:
        lengths, flat = _flatten(flat)
        if (lengths != size).any():
            raise ConversionError(f"does not have the shape {column.shape}{_shape_of(values)}")
    return tensor_array(_elements(flat, column), column, valid)


def _flatten(values: Any) -> tuple[np.ndarray, Any]:
    """Return the lengths of lists, and the elements of all of them."""
    if isinstance(values, np.ndarray):
        if values.ndim < 2:
            raise ConversionError("holds scalars where lists are expected")
        return np.full(values.shape[0], values.shape[1]), values.reshape(-1, *values.shape[2:])
    types = set(map(type, values))
    for found in types:
        if not issubclass(found, (Sequence, np.ndarray)) or issubclass(found, _NOT_LISTS):
            raise ConversionError(
                f"is or holds {with_article(found.__name__)} where a list, tuple or numpy array is expected"
            )
    if np.ndarray in types and not all(value.ndim for value in values if isinstance(value, np.ndarray)):
        raise ConversionError("is a numpy array without dimensions where a list is expected")
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    if types == {np.ndarray} and len({(value.dtype, value.shape[1:]) for value in values}) == 1:
        return lengths, np.concatenate(values)
    return lengths, list(chain.from_iterable(values))


def _elements(flat: Any, column: Column) -> pa.Array:
    """Convert the elements of all rows, none of which may be null."""
    try:
        if isinstance(flat, np.ndarray):
            if flat.ndim != 1:
                raise ConversionError(f"has {flat.ndim - 1} dimensions too many")
            array = numbers_to_arrow(flat, column)
        else:
            array = scalars_to_arrow(flat, column)
    except ConversionError as error:
        raise ConversionError(f"has an element that {error}") from error
    if array.null_count:
        raise ConversionError("has an element that is null; only the whole value may be null")
    return array


def _shape_of(values: list[Any]) -> str:
    """Return the end of a message about a shape: the shape of a single value."""
    if len(values) != 1:
        return ""
    try:
        return f", but {np.asarray(values[0]).shape}"
    except ValueError:  # lists of different lengths
        return ", and its lists have different lengths"

"""One column's Arrow array to the lists of Example features, and back.

Input: an Arrow array of a column's type. Output: lists of int64, float32 or bytes, null where the feature has no list;
and from such lists, the array again, or a `ConversionError` that says which rule the features break.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_tfscript.data.arrow_types import element_arrow_type, list_array, tensor_array
from beam_tfscript.data.column import Column
from beam_tfscript.data.conversion_errors import ConversionError
from beam_tfscript.data.kinds import DAY_RANGE, INTEGER_RANGES, units_per_second
from beam_tfscript.data.packed import pack_numbers, unpack_numbers

__all__ = ["FEATURE_TYPES", "Rounding", "array_from_features", "array_to_features", "find_rounded"]

FEATURE_TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "float": pa.float32(),
    "bytes": pa.large_binary(),
}
_DAY_S = 86400


def array_to_features(array: pa.Array, column: Column) -> list[tuple[str, pa.LargeListArray]]:
    """Return the features that hold a column, each with its name.

    Args:
      array: Arrow array of the column's type.
      column: name and type.
    """
    valid = None if not array.null_count else array.is_valid().to_numpy(zero_copy_only=False)
    if column.is_packed:
        array = pack_numbers(array, column)
    if column.is_scalar or column.is_packed:
        # A null has a value too, which the encoder skips because of the mask.
        mask = None if valid is None else pa.array(~valid)
        values = array if column.is_packed else _pack(array, column)
        lists = pa.LargeListArray.from_arrays(_offsets_of_scalars(len(array)), values, mask=mask)
        return [(column.name, lists)]
    if column.is_tensor:
        flat = array
        for _ in column.shape:
            flat = flat.flatten()
        size = math.prod(length or 0 for length in column.shape)
        lengths = np.full(len(array), size) if valid is None else np.where(valid, size, 0)
        return [(column.name, list_array(lengths, _pack(flat, column), valid))]
    lengths = _lengths(array)
    if column.row_lengths is None:
        return [(column.name, list_array(lengths, _pack(array.flatten(), column), valid))]
    rows = array.flatten()
    row_lengths = _lengths(rows)
    values = list_array(_sums(row_lengths, lengths), _pack(rows.flatten(), column), valid)
    return [(column.name, values), (column.row_lengths, list_array(lengths, pa.array(row_lengths), valid))]


def array_from_features(features: Mapping[str, pa.Array], column: Column) -> pa.Array:
    """Return a column's array.

    Args:
      features: the features by name, as lists of any type that an Example has. A feature without a value in any
        Example has Arrow's null type.
      column: name and type.

    Raises:
      ConversionError: the features do not hold values of the column.
    """
    lists = _typed(features[column.name], column.feature)
    valid = None if not lists.null_count else lists.is_valid().to_numpy(zero_copy_only=False)
    if valid is not None and not column.nullable:
        raise ConversionError("the feature is empty, which is null, but the column is `not null`")
    lengths = _lengths(lists)
    if column.is_scalar:
        _check_lengths(lengths, 1, valid, "a scalar")
        return _scatter(_unpack(lists.flatten(), column), valid)
    if column.is_packed:
        _check_lengths(lengths, 1, valid, "one packed array")
        return unpack_numbers(lists.flatten(), column, valid)
    values = _unpack(lists.flatten(), column)
    if column.is_tensor:
        _check_lengths(lengths, math.prod(size or 0 for size in column.shape), valid, f"shape {column.shape}")
        return tensor_array(values, column, valid)
    if column.row_lengths is None:
        return list_array(lengths, values, valid)
    return _ragged(values, lengths, valid, _typed(features[column.row_lengths], "int64"), column)


class Rounding(NamedTuple):
    """Values of a `double` column that a 32-bit float does not hold.

    Attributes:
      rounded: number of values that change, those that become infinite included.
      infinite: number of finite values that become infinite.
      example: one value that loses digits; None where all values that change become infinite.
      overflow: one value that becomes infinite; None where no value does.
    """

    rounded: int
    infinite: int
    example: float | None
    overflow: float | None


def find_rounded(array: pa.Array, column: Column) -> Rounding | None:
    """Return the values that 32-bit floats change in a `double` column; None where all stay. A nan stays."""
    if column.kind != "double":
        return None
    flat = array
    for _ in column.shape:
        flat = flat.flatten()
    doubles = flat.drop_null().to_numpy()
    with np.errstate(over="ignore"):
        floats = doubles.astype(np.float32)
    changed = (floats != doubles) & (doubles == doubles)
    rounded = int(np.count_nonzero(changed))
    if not rounded:
        return None
    # An infinite value does not change, so an infinite result of a change is an overflow.
    overflown = changed & np.isinf(floats)
    infinite = int(np.count_nonzero(overflown))
    return Rounding(rounded, infinite, _first(doubles, changed & ~overflown), _first(doubles, overflown))


def _first(values: np.ndarray, chosen: np.ndarray) -> float | None:
    return float(values[chosen.argmax()]) if chosen.any() else None


@functools.lru_cache(maxsize=4)
def _offsets_of_scalars(count: int) -> pa.Array:
    """Return the offsets of lists of one value; cached, since all scalar columns of a batch share them."""
    return pa.array(np.arange(count + 1))


def _ragged(
    values: pa.Array, lengths: np.ndarray, valid: np.ndarray | None, rows: pa.Array, column: Column
) -> pa.Array:
    present = None if not rows.null_count else rows.is_valid().to_numpy(zero_copy_only=False)
    all_rows: np.ndarray = np.ones(len(rows), bool)
    if not np.array_equal(all_rows if valid is None else valid, all_rows if present is None else present):
        raise ConversionError(
            f"one of the features {column.name!r} and {column.row_lengths!r} is empty and the other is not"
        )
    row_lengths = rows.flatten().to_numpy()
    outer = _lengths(rows)
    if (row_lengths < 0).any() or not np.array_equal(_sums(row_lengths, outer), lengths):
        raise ConversionError(f"the lengths in feature {column.row_lengths!r} do not add up to the number of values")
    return list_array(outer, list_array(row_lengths, values, None), valid)


def _typed(lists: pa.Array, feature: str) -> pa.Array:
    wanted = FEATURE_TYPES[feature]
    if pa.types.is_null(lists.type):
        return pa.nulls(len(lists), pa.large_list(wanted))
    if lists.type.value_type != wanted:
        names = {arrow: name for name, arrow in FEATURE_TYPES.items()}
        found = names.get(lists.type.value_type, str(lists.type.value_type))
        raise ConversionError(f"expected values in {feature}_list, found {found}_list")
    return lists


def _lengths(lists: pa.Array) -> np.ndarray:
    lengths = lists.value_lengths()
    return (lengths.fill_null(0) if lengths.null_count else lengths).to_numpy()


def _sums(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the sum of each part of `values`; the parts follow one another and have the given lengths."""
    totals = np.concatenate(([0], np.cumsum(values)))
    ends = np.cumsum(lengths)
    return totals[ends] - totals[ends - lengths]


def _check_lengths(lengths: np.ndarray, size: int, valid: np.ndarray | None, shape_text: str) -> None:
    wrong = lengths != size if valid is None else (lengths != size) & valid
    if wrong.any():
        count = int(lengths[wrong.argmax()])
        raise ConversionError(
            f"the feature has {count} value{'' if count == 1 else 's'}, and {shape_text} has exactly {size}"
        )


def _scatter(values: pa.Array, valid: np.ndarray | None) -> pa.Array:
    """Return an array with the values at the rows that are valid, and null at the other rows."""
    if valid is None:
        return values
    indices = np.cumsum(valid) - 1
    return values.take(pa.array(np.maximum(indices, 0), mask=~valid))


def _pack(values: pa.Array, column: Column) -> pa.Array:
    """Convert element values to int64, float32 or bytes."""
    kind = column.kind
    if kind == "double":
        return values.cast(pa.float32())
    if kind == "float64":
        return values.view(pa.int64())
    if kind == "string":
        return values.view(pa.large_binary())
    if kind in ("date", "time", "timestamp"):
        return values.view(pa.int32() if values.type.bit_width == 32 else pa.int64()).cast(pa.int64())
    if kind == "decimal":
        # Arrow's cast writes small numbers as 1E-8, which not every reader parses.
        texts = [None if value is None else f"{value:f}".encode() for value in values.to_pylist()]
        return pa.array(texts, pa.large_binary())
    return values.cast(FEATURE_TYPES[column.feature])


def _unpack(values: pa.Array, column: Column) -> pa.Array:
    """Convert int64, float32 or bytes to element values."""
    kind = column.kind
    if kind in INTEGER_RANGES:
        _check_range(values, *INTEGER_RANGES[kind], column)
    elif kind == "boolean":
        _check_range(values, 0, 1, column)
    elif kind == "date":
        _check_range(values, *DAY_RANGE, column)
        return values.cast(pa.int32()).view(pa.date32())
    elif kind == "time":
        _check_range(values, 0, _DAY_S * units_per_second(column.unit or "us") - 1, column)
        return (values if column.unit == "us" else values.cast(pa.int32())).view(element_arrow_type(column))
    elif kind in ("timestamp", "float64"):
        return values.view(element_arrow_type(column))
    elif kind in ("string", "decimal"):
        return _texts(values, column)
    _check_sizes(values, column)
    return values.cast(element_arrow_type(column))


def _check_range(values: pa.Array, low: int, high: int, column: Column) -> None:
    if not len(values):
        return
    numbers = values.to_numpy()
    for found in (int(numbers.min()), int(numbers.max())):
        if not low <= found <= high:
            raise ConversionError(f"{found} is out of range for {column.element_type} ({low} to {high})")


def _check_sizes(values: pa.Array, column: Column) -> None:
    if column.length is None:
        return
    is_text = column.kind == "string"
    sizes = pc.utf8_length(values) if is_text else pc.binary_length(values)
    wrong = pc.not_equal(sizes, column.length) if column.fixed_length else pc.greater(sizes, column.length)
    if pc.any(wrong).as_py():
        bound = "exactly" if column.fixed_length else "at most"
        found = sizes.filter(wrong)[0].as_py()
        unit = "characters" if is_text else "bytes"
        raise ConversionError(f"a value has {found} {unit}, and {column.element_type} has {bound} {column.length}")


def _texts(values: pa.Array, column: Column) -> pa.Array:
    try:
        texts = values.cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise ConversionError(
            "the bytes are not UTF-8; for bytes that are not text the column must be varbinary"
        ) from error
    if column.kind == "string":
        _check_sizes(texts, column)
        return texts
    try:
        return texts.cast(element_arrow_type(column))
    except pa.ArrowInvalid as error:
        raise ConversionError(f"the text does not fit {column.element_type} exactly: {error}") from error

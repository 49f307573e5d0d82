"""Python scalars of one column to a flat Arrow array.

Input: a list of scalars, None for null, or a numpy array without nulls. Output: an Arrow array of the column's element
type, or a `ConversionError`.
"""

from __future__ import annotations

import decimal
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_tfscript.data.arrow_types import element_arrow_type
from beam_tfscript.data.column import Column
from beam_tfscript.data.conversion_errors import ConversionError, with_article
from beam_tfscript.data.kinds import INTEGER_RANGES, KINDS

__all__ = [
    "ARROW_ERRORS",
    "FLOATS",
    "check_lengths",
    "check_types",
    "floats_to_arrow",
    "numbers_to_arrow",
    "scalars_to_arrow",
]

FLOATS = ("float", "double", "float64")
_BYTES = (bytes, bytearray, memoryview)
# Errors of pyarrow for a value that it cannot convert; OverflowError is for integers beyond 64 bits.
ARROW_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeEncodeError)


def scalars_to_arrow(values: list[Any], column: Column) -> pa.Array:
    """Convert a list of scalars.

    Args:
      values: the scalars; None is null, even if the column is not nullable.
      column: the column of the scalars, or of the arrays whose elements they are.

    Raises:
      ConversionError: a value does not fit the column's element type.
    """
    kind = column.kind
    array = None
    if kind in ("float", "double"):
        array = floats_to_arrow(values, column, element_arrow_type(column))
    elif kind == "string" and column.length is None:
        array = _texts_to_arrow(values)
    if array is not None:
        return array
    types = set(map(type, values))
    types.discard(type(None))
    check_types(types, column)
    if kind in ("date", "time", "timestamp"):
        from beam_tfscript.data.times_to_arrow import times_to_arrow

        return times_to_arrow(values, types, column)
    try:
        array = pa.array(values, element_arrow_type(column))
    except ARROW_ERRORS as error:
        if kind in FLOATS:
            return numbers_to_arrow(_exact_floats(values, column), column, nulls=[v is None for v in values])
        raise ConversionError(_reason(values, column, error)) from error
    if kind == "float" and pc.any(pc.is_inf(array)).as_py():
        return numbers_to_arrow(_exact_floats(values, column), column, nulls=[v is None for v in values])
    check_lengths(array, column)
    return array


def _texts_to_arrow(values: list[Any]) -> pa.Array | None:
    """Convert texts; return None where the values must be checked one by one.

    Arrow infers the type here. Given the type, it would take bytes for texts.
    """
    try:
        array = pa.array(values)
    except (*ARROW_ERRORS, TypeError):
        return None
    is_text = isinstance(array, pa.Array) and array.type == pa.string()
    return array.cast(pa.large_string()) if is_text else None


def floats_to_arrow(values: list[Any], column: Column, arrow: pa.DataType) -> pa.Array | None:
    """Convert floats, or lists of them, without a check of each value's type.

    Arrow accepts two kinds of wrong values: booleans become 0 and 1, and numbers too large for 32 bits become infinite.
    So types are checked only where the result has such numbers.

    Args:
      values: floats or plain lists of floats; None is null.
      column: the values' column.
      arrow: Arrow type to convert to.

    Returns:
      The array; None where the values must be checked one by one.
    """
    try:
        array = pa.array(values, arrow)
    except ARROW_ERRORS:
        return None
    flat = array.flatten() if pa.types.is_large_list(arrow) else array
    numbers = flat.to_numpy(zero_copy_only=False)
    if column.kind == "float" and np.isinf(numbers).any():
        return None
    if ((numbers == 0) | (numbers == 1)).any():
        elements = values if flat is array else chain.from_iterable(filter(None, values))
        if any(issubclass(found, bool) for found in set(map(type, elements))):
            return None
    return array


def check_types(types: set[type], column: Column) -> None:
    """Check that a column takes values of these types. The values' ranges are not checked.

    Raises:
      ConversionError: the column does not take one of the types.
    """
    kind = column.kind
    for found in types:
        if not _fits(found, kind):
            raise ConversionError(
                f"is {with_article(found.__name__)} where {KINDS[kind].takes} is expected{_hint(found, kind)}"
            )


def check_lengths(array: pa.Array, column: Column) -> None:
    """Check the lengths of texts, in characters, and of bytes.

    Raises:
      ConversionError: a length is not as the column's type says.
    """
    if column.length is None:
        return
    is_text = column.kind == "string"
    lengths = pc.utf8_length(array) if is_text else pc.binary_length(array)
    wrong = pc.not_equal(lengths, column.length) if column.fixed_length else pc.greater(lengths, column.length)
    if pc.any(wrong).as_py():
        bound = "exactly" if column.fixed_length else "at most"
        raise ConversionError(f"does not have {bound} {column.length} {'characters' if is_text else 'bytes'}")


def numbers_to_arrow(values: np.ndarray, column: Column, *, nulls: list[bool] | None = None) -> pa.Array:
    """Convert a one-dimensional numpy array; values other than numbers and booleans are converted as Python values.

    Args:
      values: the array.
      column: the column of the values.
      nulls: True for each value that stands for null; None where no value does.

    Raises:
      ConversionError: a value does not fit the column's element type.
    """
    code = values.dtype.kind
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if code in "iu" and column.kind in INTEGER_RANGES:
        return pa.array(_checked_integers(values, column))
    if code in "iuf" and column.kind in FLOATS and not (values.dtype.itemsize > 8 and column.kind == "float64"):
        return pa.array(_checked_floats(values, column), mask=None if nulls is None else np.array(nulls, bool))
    if code == "b" and column.kind == "boolean":
        return pa.array(values)
    return scalars_to_arrow(values.tolist() if code == "O" else list(values), column)


def _fits(found: type, kind: str) -> bool:
    """Return True if a column of this kind takes values of a Python type."""
    if issubclass(found, bool):
        return kind == "boolean"
    if kind in INTEGER_RANGES:
        return issubclass(found, (int, np.integer)) and not issubclass(found, np.timedelta64)
    if kind in FLOATS:
        if issubclass(found, np.longdouble):
            return kind != "float64"
        return issubclass(found, (float, int, np.floating, np.integer)) and not issubclass(found, np.timedelta64)
    if kind == "boolean":
        return issubclass(found, np.bool_)
    if kind == "string":
        return issubclass(found, str)
    if kind == "varbinary":
        return issubclass(found, _BYTES)
    if kind == "decimal":
        return issubclass(found, (decimal.Decimal, int))
    from beam_tfscript.data.times_to_arrow import fits_time

    return fits_time(found, kind)


def _hint(found: type, kind: str) -> str:
    """Return the end of a message about a type, with advice where there is some."""
    if kind == "string" and issubclass(found, _BYTES):
        return "; decode it, or make the column varbinary"
    if kind == "varbinary" and issubclass(found, str):
        return "; encode it, or make the column string"
    return ""


def _reason(values: list[Any], column: Column, error: Exception) -> str:
    kind = column.kind
    if kind in INTEGER_RANGES:
        low, high = INTEGER_RANGES[kind]
        return f"is out of range for {kind} ({low} to {high})"
    if kind == "decimal":
        return f"does not fit {column.element_type} exactly"
    if isinstance(error, UnicodeEncodeError):
        return "is not valid Unicode: it holds half of a surrogate pair"
    return f"does not fit {column.element_type}: {error}"


def _checked_integers(values: np.ndarray, column: Column) -> np.ndarray:
    target = np.dtype(KINDS[column.kind].dtype)
    limits = np.iinfo(target)
    may_not_fit = values.size and not np.can_cast(values.dtype, target)
    if may_not_fit and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise ConversionError(f"is out of range for {column.kind} ({limits.min} to {limits.max})")
    return values.astype(target, copy=False)


def _checked_floats(values: np.ndarray, column: Column) -> np.ndarray:
    target = np.dtype(np.float32 if column.kind == "float" else np.float64)
    with np.errstate(over="ignore"):
        floats: np.ndarray = values.astype(target, copy=False)
    if values.dtype.kind != "f":
        # A rounded float may be one above the largest integer, so that the cast back would overflow.
        limit = float(np.iinfo(values.dtype).max)
        inside = floats < limit if np.iinfo(values.dtype).bits == 64 else np.ones(floats.shape, bool)
        if not (inside.all() and (floats.astype(values.dtype) == values).all()):
            raise ConversionError(f"is an integer that {target} does not hold exactly")
    elif target.itemsize < values.dtype.itemsize and (np.isinf(floats) & np.isfinite(values)).any():
        raise ConversionError(f"is out of range for {column.kind} ({target.itemsize * 8} bits)")
    return floats


def _exact_floats(values: list[Any], column: Column) -> np.ndarray:
    """Return floats, converted one by one, because some of them are integers that are too large for Arrow."""
    floats: np.ndarray = np.zeros(len(values), np.float64)
    for index, value in enumerate(values):
        if isinstance(value, (int, np.integer)):
            try:
                floats[index] = np.float32(value) if column.kind == "float" else float(value)
                exact = int(floats[index]) == value
            except OverflowError:  # larger than any float
                exact = False
            if not exact:
                raise ConversionError(f"is an integer that {column.kind} does not hold exactly")
        elif value is not None:
            floats[index] = value
    return floats

"""Dates, times of day and timestamps of one column to a flat Arrow array.

Input: `datetime` values, numpy's `datetime64`, or Beam's timestamps, which have `micros` or `nanos`. Output: an Arrow
array in the column's unit, or a `ConversionError` for a value that is not a whole number of that unit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from beam_tfscript.data.arrow_types import element_arrow_type
from beam_tfscript.data.column import Column
from beam_tfscript.data.conversion_errors import ConversionError
from beam_tfscript.data.kinds import units_per_second

__all__ = ["fits_time", "times_to_arrow"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_NAIVE_EPOCH = dt.datetime(1970, 1, 1)
_NANOS_PER_SECOND = 10**9
_BEAM_TIMESTAMP = ("apache_beam.utils.timestamp", "Timestamp")


def fits_time(found: type, kind: str) -> bool:
    """Return True if a column of dates, times or timestamps takes values of a Python type."""
    if kind == "date":
        return issubclass(found, np.datetime64) or (issubclass(found, dt.date) and not issubclass(found, dt.datetime))
    if kind == "time":
        return issubclass(found, dt.time)
    return issubclass(found, (dt.datetime, np.datetime64)) or _is_beam_timestamp(found)


def _is_beam_timestamp(found: type) -> bool:
    """Return True if a type is Beam's Timestamp or derives from it, without importing Beam.

    The class's attributes do not identify it: up to Beam 2.75, only instances had `micros`.
    """
    return any((base.__module__, base.__name__) == _BEAM_TIMESTAMP for base in found.__mro__)


def times_to_arrow(values: list[Any], types: set[type], column: Column) -> pa.Array:
    """Convert dates, times or timestamps.

    Args:
      values: the values; None is null.
      types: the types of the values that are not null.
      column: the column of the values, or of the arrays whose elements they are.

    Raises:
      ConversionError: a value is not a whole number of the column's unit, or is out of range.
    """
    arrow = element_arrow_type(column)
    if column.kind == "date" and not any(issubclass(found, np.datetime64) for found in types):
        return pa.array(values, arrow)
    to_units = _converter(column)
    try:
        units = pa.array([None if value is None else to_units(value) for value in values], pa.int64())
    except OverflowError as error:
        raise ConversionError(f"is out of range for {column.type}") from error
    if column.kind == "date":
        return _dates(units)
    return (units.cast(pa.int32()) if arrow.bit_width == 32 else units).cast(arrow)


def _dates(days: pa.Array) -> pa.Array:
    try:
        return days.cast(pa.int32()).cast(pa.date32())
    except pa.ArrowInvalid as error:
        raise ConversionError("is out of range for date") from error


def _converter(column: Column) -> Callable[[Any], int]:
    """Return the function that converts one value to its number of units."""
    if column.kind == "date":
        return lambda value: _datetime64_units(value, "D")
    unit = column.unit or "us"
    step = _NANOS_PER_SECOND // units_per_second(unit)
    nanos_of = _time_nanos if column.kind == "time" else _timestamp_nanos

    def to_units(value: Any) -> int:
        if isinstance(value, np.datetime64):
            return _datetime64_units(value, unit)
        units, rest = divmod(nanos_of(value), step)
        if rest:
            raise ConversionError(f"is not a whole number of {unit}, the column's unit")
        return units

    return to_units


def _time_nanos(value: dt.time) -> int:
    if value.tzinfo is not None:
        raise ConversionError("has a time zone, which a time of day does not keep")
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return (seconds * 1_000_000 + value.microsecond) * 1000


def _timestamp_nanos(value: Any) -> int:
    if isinstance(value, dt.datetime):
        if hasattr(value, "to_datetime64"):  # pandas.Timestamp, which has nanoseconds
            return _datetime64_units(value.to_datetime64(), "ns")
        since = value - (_EPOCH if value.tzinfo is not None else _NAIVE_EPOCH)
        return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
    if hasattr(value, "nanos"):
        return value.nanos
    return value.micros * 1000


def _datetime64_units(value: np.datetime64, unit: str) -> int:
    if np.isnat(value):
        raise ConversionError("is not a time (NaT); write None for null")
    units: np.ndarray = value.astype(f"datetime64[{unit}]")
    if units.astype(value.dtype) != value:
        raise ConversionError(f"is not a whole number of {unit}, or out of its range")
    return int(units.astype(np.int64))

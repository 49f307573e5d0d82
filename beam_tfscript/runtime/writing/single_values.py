"""One value that the script writes in, its number or bytes in the Example out.

This file decides which values fit a column, and words the errors. `flat_values.py` checks whole arrays, and calls this
file for the values that it cannot check at once.
"""

import datetime
import decimal
import struct

from beam_tfscript.runtime.columns import UNITS_PER_SECOND, OutputMismatch

TEMPORAL = ("date", "time", "timestamp")

# A message shows this many characters of a value.
_SHOWN_CHARS = 80

_EXPECTED = {
    "date": "datetime.date, datetime64 or days since 1970-01-01",
    "time": "datetime.time without a time zone, timedelta64 or {} since midnight",
    "timestamp": "datetime.datetime (taken as UTC where it has no time zone), datetime64 or {} since 1970",
}

_EPOCH = datetime.datetime(1970, 1, 1)


def mismatch(column, row, problem):
    """Return the error for a value that does not fit its column.

    Args:
      column: the `Column`.
      row: index of the row in the call, or None.
      problem: the message: problem and remedy.
    """
    location = "" if row is None else ", row {}".format(row)
    null = "" if column.nullable else " not null"
    return OutputMismatch('column "{}" ({}{}){}: {}'.format(column.name, column.type, null, location, problem))


def number_of(column, value, row):
    """Convert one value to the number in an `int64` or `float` feature.

    Args:
      column: the `Column`.
      value: a Python or numpy number, bool, date or time, or an eager tensor of one value; not None.
      row: index of the row, for the message.

    Raises:
      OutputMismatch: the value is of another type, or out of range.
    """
    value = _unwrap(value)
    if isinstance(value, bool) != (column.kind == "boolean"):
        wanted = "a bool" if column.kind == "boolean" else "no bool (convert it with int(x))"
        raise mismatch(column, row, "expected {}, got {}".format(wanted, shown(value)))
    if column.kind in TEMPORAL:
        value = _count_units(column, value, row)
    elif column.feature == "float" or column.kind == "float64":
        return _real(column, value, row)
    if not isinstance(value, int):
        hint = ": round it, and convert it with int(x)" if isinstance(value, float) else ""
        raise mismatch(column, row, "{} is not a whole number{}".format(shown(value), hint))
    low, high = column.int_range
    if not low <= value <= high:
        raise mismatch(column, row, "{} is out of range: {} to {}".format(shown(value), low, high))
    return int(value)


def bytes_of(column, value, row):
    """Convert one value to the bytes in a `bytes` feature.

    Args:
      column: the `Column`.
      value: str, bytes, or for a decimal also Decimal or int; not None.
      row: index of the row, for the message.

    Raises:
      OutputMismatch: the value is of another type or length, is not UTF-8, or has more digits than the column.
    """
    value = _unwrap(value)
    if column.kind == "decimal":
        return _decimal_text(column, value, row)
    try:
        if isinstance(value, str) and column.kind == "string":
            return _checked_length(column, value.encode("utf-8"), len(value), row)
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = bytes(value)
            size = len(value.decode("utf-8")) if column.kind == "string" else len(value)
            return _checked_length(column, value, size, row)
    except UnicodeError as error:
        problem = "{} is not UTF-8; a varbinary column takes any bytes".format(shown(value))
        raise mismatch(column, row, problem) from error
    wanted = "bytes (encode the text)" if column.kind == "varbinary" else "str or UTF-8 bytes"
    raise mismatch(column, row, "expected {}, got {}".format(wanted, shown(value)))


def _checked_length(column, value, size, row):
    if column.length is not None and (size != column.length if column.is_fixed_length else size > column.length):
        unit = "characters" if column.kind == "string" else "bytes"
        bound = "exactly" if column.is_fixed_length else "at most"
        raise mismatch(column, row, "{} has {} {}, not {} {}".format(shown(value), size, unit, bound, column.length))
    return value


def is_null(value):
    """Return True if a value stands for null: None, or a NaT of numpy or pandas."""
    if value is None:
        return True
    return type(value).__name__ in ("datetime64", "timedelta64", "NaTType") and value != value


def shown(value):
    """Return a value and its type, short enough for a message."""
    # Cut before repr() too: it would copy a long text.
    text = repr(value[:_SHOWN_CHARS] if isinstance(value, (str, bytes)) else value)
    if len(text) > _SHOWN_CHARS:
        text = text[:_SHOWN_CHARS] + "…"
    return "{} ({})".format(text, type(value).__name__)


def units_of(values, unit):
    """Convert a datetime64 or timedelta64 array to numbers of `unit` since 1970, or since midnight.

    Returns:
      An int64 array; None if a value is not a whole number of units, or out of int64's range.
    """
    import numpy as np

    target = "{}8[{}]".format(values.dtype.kind, unit)
    units = values.astype(target)
    # Converting back finds overflow too, which numpy does not report.
    if not np.array_equal(units.astype(values.dtype).view(np.int64), values.view(np.int64)):
        return None
    return units.view(np.int64)


def _unwrap(value):
    """Return the Python value of a numpy scalar, or of an array or eager tensor of one value."""
    if type(value) in (int, float, str, bytes, bool):
        return value
    if callable(getattr(value, "numpy", None)):
        value = value.numpy()
    if getattr(value, "size", None) == 1 and hasattr(value, "reshape"):
        value = value.reshape(-1)[0]
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind in ("i", "u", "b"):
        return value.item()
    if kind in ("f", "V") and not isinstance(value, float) and hasattr(value, "__float__"):
        return float(value)  # float32, bfloat16
    return value


def _real(column, value, row):
    """Convert a float, or an int that a float holds exactly; a float64 column gets the float's bits as an int."""
    if not isinstance(value, (float, int)):
        raise mismatch(column, row, "{} is not a number".format(shown(value)))
    try:
        number = float(value)
        if column.feature == "float":
            narrow = struct.unpack("<f", struct.pack("<f", number))[0]
            held = narrow if column.kind == "float" else number
        else:
            held = number
    except OverflowError as error:
        dtype = "float64" if column.kind == "float64" else "float32, which an Example holds"
        raise mismatch(column, row, "{} is out of the range of {}".format(shown(value), dtype)) from error
    if isinstance(value, int) and held != value:
        raise mismatch(column, row, "{} has more digits than the column holds".format(shown(value)))
    return struct.unpack("<q", struct.pack("<d", number))[0] if column.kind == "float64" else number


def _count_units(column, value, row):
    """Convert a date or time to a number of days or units; an int is such a number already."""
    unit = "D" if column.kind == "date" else column.unit
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind == ("m" if column.kind == "time" else "M"):
        units = units_of(value.reshape(1), unit)
        count = None if units is None else int(units[0])
    elif column.kind == "date" and type(value) is datetime.date:
        return value.toordinal() - _EPOCH.toordinal()
    elif column.kind == "timestamp" and isinstance(value, datetime.datetime):
        # pandas.Timestamp is a datetime, and has nanoseconds too.
        count = _whole_units(_since_epoch(value), getattr(value, "nanosecond", 0), unit)
    elif column.kind == "time" and isinstance(value, datetime.time) and value.tzinfo is None:
        since = datetime.datetime.combine(_EPOCH.date(), value) - _EPOCH
        count = _whole_units(since, 0, unit)
    elif isinstance(value, int):
        return value
    else:
        expected = _EXPECTED[column.kind].format(column.unit)
        raise mismatch(column, row, "expected {}, got {}".format(expected, shown(value)))
    if count is None:
        units = "days" if unit == "D" else unit
        raise mismatch(column, row, "{} is not a whole number of {}, or out of range".format(shown(value), units))
    return count


def _since_epoch(value):
    if value.tzinfo is not None:
        value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return value - _EPOCH


def _whole_units(delta, nanoseconds, unit):
    """Convert a timedelta and further nanoseconds to a number of units; return None if it is not whole."""
    total = ((delta.days * 86400 + delta.seconds) * 10**6 + delta.microseconds) * 1000 + nanoseconds
    count, rest = divmod(total, 10**9 // UNITS_PER_SECOND[unit])
    return None if rest else count


def _decimal_text(column, value, row):
    """Return a decimal's ASCII text, with exactly as many digits after the point as the type has."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, bool) or not isinstance(value, (decimal.Decimal, int, str)):
        raise mismatch(column, row, "expected Decimal, int or the number as text, got {}".format(shown(value)))
    context = decimal.Context(prec=100, traps=[decimal.Inexact, decimal.InvalidOperation])
    try:
        number = decimal.Decimal(value)
        if not number.is_finite():
            raise decimal.InvalidOperation("not finite")
        if column.precision is not None:
            number = context.quantize(number, decimal.Decimal(1).scaleb(-column.scale))
            if number and number.adjusted() + column.scale + 1 > column.precision:
                raise decimal.InvalidOperation("too many digits")
    except decimal.DecimalException as error:
        problem = "{} is not a number that fits without rounding".format(shown(value))
        raise mismatch(column, row, problem) from error
    return "{:f}".format(number or abs(number)).encode("ascii")  # 0 has no sign

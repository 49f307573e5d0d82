"""Default values in schema texts.

Comes in: a literal of a schema text, or a column's default. Goes out: the default as a Python value; or as the text
of the grammar, or as the JSON of the wire form.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from beam_tfscript.data.kinds import INTEGER_RANGES, units_a_second

if TYPE_CHECKING:
    from beam_tfscript.data.schema import Column

__all__ = ["EXAMPLES", "literal_text", "literal_to_wire", "value_of_number", "value_of_text"]

_EPOCH = dt.date(1970, 1, 1)

# One literal for each kind, for messages.
EXAMPLES = {
    **dict.fromkeys((*INTEGER_RANGES, "float", "double", "float64", "decimal"), "0"),
    "boolean": "true",
    "string": "'text'",
    "varbinary": "'text'",
    "date": "'2024-01-31'",
    "time": "'23:59:59'",
    "timestamp": "'2024-01-31T23:59:59+00:00'",
}


def value_of_number(column: Column, text: str) -> Any:
    """Returns the Python value of a number, or None where the column takes none."""
    try:
        if column.kind in INTEGER_RANGES:
            return int(text)
        if column.kind in ("float", "double", "float64"):
            return float(text)
        if column.kind == "decimal":
            return Decimal(text)
    except ValueError:  # a whole number was wanted
        return None
    return None


def value_of_text(column: Column, text: str) -> Any:
    """Returns the Python value of a quoted text, or None where the column takes none."""
    try:
        if column.kind == "string":
            return text
        if column.kind == "varbinary":
            return text.encode()
        if column.kind == "date":
            return dt.date.fromisoformat(text)
        if column.kind == "time":
            return dt.time.fromisoformat(text)
        if column.kind == "timestamp":
            value = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
            return value.astimezone(dt.timezone.utc) if value.tzinfo else value.replace(tzinfo=dt.timezone.utc)
    except ValueError:  # not such a date or time
        return None
    return None


def literal_text(value: Any) -> str:
    """Returns a default value as the grammar writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    text = value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else value.isoformat()
    return "'" + text.replace("'", "''") + "'"


def literal_to_wire(column: Column) -> Any:
    """Returns a column's default as JSON, in the form that an Example holds: days, units, or text."""
    value = column.default
    if column.kind == "date" and value is not None:
        return value.toordinal() - _EPOCH.toordinal()
    if column.kind == "time" and value is not None:
        return _units(dt.datetime.combine(_EPOCH, value, dt.timezone.utc), column)
    if column.kind == "timestamp" and value is not None:
        return _units(value, column)
    if column.kind == "decimal" and value is not None:
        return f"{value:.{column.scale}f}"
    return value.decode() if isinstance(value, bytes) else value


def _units(value: dt.datetime, column: Column) -> int:
    micros = (value - dt.datetime.combine(_EPOCH, dt.time(), dt.timezone.utc)) // dt.timedelta(microseconds=1)
    return micros * units_a_second(column.unit or "us") // 1_000_000

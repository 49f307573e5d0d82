"""Default values in schema texts: literals to Python values."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from beam_tfscript.data.column import Column
from beam_tfscript.data.kinds import INTEGER_RANGES

__all__ = ["EXAMPLES", "value_of_number", "value_of_text"]

# One literal of each kind, for messages.
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
    """Return the Python value of a number, or None where the column does not take it."""
    try:
        if column.kind in INTEGER_RANGES:
            return int(text)
        if column.kind in ("float", "double", "float64"):
            return float(text)
        if column.kind == "decimal":
            return Decimal(text)
    except ValueError:  # no whole number
        return None
    return None


def value_of_text(column: Column, text: str) -> Any:
    """Return the Python value of a quoted text, or None where the column does not take it."""
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
    except ValueError:  # no date or time
        return None
    return None

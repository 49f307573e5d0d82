"""Maps, structs and deep arrays as JSON text, and back.

In comes an Arrow array of such a type, and out goes an array of texts; or the other way. Dates and times are ISO 8601,
decimals are text, and bytes are base64. The keys of maps are text, as JSON has no others.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from typing import Any

import pyarrow as pa
from pyarrow import types as is_type

__all__ = ["from_json", "to_json"]


def to_json(array: pa.Array) -> pa.Array:
    """Return the values as JSON texts; null stays null."""
    texts = []
    for value in array.to_pylist():
        texts.append(None if value is None else json.dumps(_plain(value, array.type), ensure_ascii=False))
    return pa.array(texts, pa.string())


def from_json(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return the values of JSON texts; null stays null.

    Args:
      array: texts.
      wanted: Arrow type of the values.

    Raises:
      ValueError: a text is not JSON, or does not hold a value of the type.
    """
    values = []
    for text in array.to_pylist():
        try:
            values.append(None if text is None else _value(json.loads(text), wanted))
        except (TypeError, AttributeError, KeyError, decimal.InvalidOperation) as error:
            raise ValueError(f"the JSON text {text[:80]!r} is not a value of {wanted}") from error
    try:
        return pa.array(values, wanted)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise ValueError(f"a JSON text does not hold a value of {wanted}: {error}") from error


def _plain(value: Any, arrow: pa.DataType) -> Any:
    """Return a value of an Arrow type as JSON has it."""
    if value is None:
        return None
    if is_type.is_map(arrow):
        return {_key(key): _plain(inner, arrow.item_type) for key, inner in value}
    if is_type.is_struct(arrow):
        return {field.name: _plain(value[field.name], field.type) for field in arrow}
    if is_type.is_list(arrow):
        return [_plain(inner, arrow.value_type) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, decimal.Decimal):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return key.isoformat() if hasattr(key, "isoformat") else str(key)


def _value(value: Any, arrow: pa.DataType) -> Any:
    """Return a value of JSON as Arrow's builder takes it."""
    if value is None:
        return None
    if is_type.is_map(arrow):
        return [(_value(_parse_key(key, arrow.key_type), arrow.key_type), _value(inner, arrow.item_type))
                for key, inner in value.items()]  # fmt: skip
    if is_type.is_struct(arrow):
        unknown = value.keys() - {field.name for field in arrow}
        if unknown:
            raise KeyError(", ".join(sorted(unknown)))
        return {field.name: _value(value.get(field.name), field.type) for field in arrow}
    if is_type.is_list(arrow):
        if not isinstance(value, list):
            raise TypeError
        return [_value(inner, arrow.value_type) for inner in value]
    if is_type.is_binary(arrow):
        return base64.b64decode(value, validate=True)
    if is_type.is_decimal(arrow):
        return decimal.Decimal(str(value))
    if is_type.is_date(arrow):
        return datetime.date.fromisoformat(value)
    if is_type.is_timestamp(arrow):
        return datetime.datetime.fromisoformat(value)
    return value


def _parse_key(text: str, arrow: pa.DataType) -> Any:
    """Return the key of a map, which JSON has as text."""
    if is_type.is_integer(arrow) or is_type.is_floating(arrow) or is_type.is_boolean(arrow):
        return json.loads(text)
    return text

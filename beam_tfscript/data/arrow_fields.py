"""Columns to Arrow fields, and back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types as is_type

from beam_tfscript.data.arrow_types import PLAIN_TYPES, arrow_type, plain_type
from beam_tfscript.data.column import Column
from beam_tfscript.data.schema_text import parse_columns
from beam_tfscript.errors import SchemaError

__all__ = ["arrow_field", "column_from_arrow"]

# Key of a field's metadata for the column's text, which holds more than Arrow's type: `float64`, `char(3)`, defaults.
_METADATA_KEY = b"beam_tfscript:column"

_KINDS_OF_PLAIN_TYPES = {
    **{arrow: kind for kind, arrow in PLAIN_TYPES.items() if kind != "float64"},
    pa.float16(): "float",
    pa.string(): "string",
    pa.string_view(): "string",
    pa.binary(): "varbinary",
    pa.binary_view(): "varbinary",
    pa.date64(): "date",
}


def arrow_field(column: Column) -> pa.Field:
    """Return the Arrow field of a column; its metadata keep the column's text where Arrow's type says less."""
    field = pa.field(column.name, arrow_type(column), nullable=column.nullable)
    if _plain_column(field) == column:
        return field
    return field.with_metadata({_METADATA_KEY: str(column)})


def column_from_arrow(field: pa.Field) -> Column:
    """Return the column of an Arrow field.

    Raises:
      SchemaError: the field's type has no counterpart here.
    """
    text = (field.metadata or {}).get(_METADATA_KEY)
    if text is not None:
        (column,) = parse_columns(text.decode())
        if column.name == field.name and field.type in (arrow_type(column), plain_type(arrow_type(column))):
            return column
    return _plain_column(field)


def _plain_column(field: pa.Field) -> Column:
    arrow, shape = field.type, []
    if isinstance(arrow, pa.FixedShapeTensorType):
        shape, arrow = list(arrow.shape), arrow.value_type
    while hasattr(arrow, "value_field") and not is_type.is_dictionary(arrow):
        shape.append(arrow.list_size if is_type.is_fixed_size_list(arrow) else None)
        arrow = arrow.value_type
    if None in shape and set(shape) != {None} or shape.count(None) > 2 or not all(s != 0 for s in shape):
        raise SchemaError(
            f"Column {field.name!r} has the Arrow type {field.type}, which has no counterpart here: lists may nest"
            " two deep, and fixed-size lists only in fixed-size lists."
        )
    return Column(field.name, shape=tuple(shape), nullable=field.nullable, **_element(arrow, field))


def _element(arrow: pa.DataType, field: pa.Field) -> dict[str, Any]:
    """Return a column's attributes for its element type."""
    if is_type.is_dictionary(arrow):
        arrow = arrow.value_type
    if is_type.is_decimal(arrow) and 0 <= arrow.scale <= arrow.precision:
        return {"kind": "decimal", "precision": arrow.precision, "scale": arrow.scale}
    if is_type.is_timestamp(arrow):
        return {"kind": "timestamp", "unit": arrow.unit}
    if is_type.is_time(arrow):
        return {"kind": "time", "unit": "us" if arrow.unit == "ns" else arrow.unit}
    if is_type.is_fixed_size_binary(arrow):
        return {"kind": "varbinary", "length": arrow.byte_width, "fixed_length": True}
    if arrow not in _KINDS_OF_PLAIN_TYPES:
        raise SchemaError(
            f"Column {field.name!r} has the Arrow type {field.type}, which has no counterpart here: leave the column"
            " out, or cast it first."
        )
    return {"kind": _KINDS_OF_PLAIN_TYPES[arrow]}

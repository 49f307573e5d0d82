"""Schemas and Arrow: which Arrow type each column has, and the arrays of lists and tensors.

Comes in: a column, or an Arrow field. Goes out: the other one. Arrow's large lists, strings and binaries are used
throughout, so that no batch can outgrow 32-bit offsets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types as is_type

from beam_tfscript.data.schema import Column, Schema
from beam_tfscript.errors import SchemaError

__all__ = [
    "arrow_field",
    "arrow_type",
    "column_from_arrow",
    "element_arrow_type",
    "list_array",
    "plain_type",
    "tensor_array",
]

# Field metadata with the column's text, for what Arrow's type does not tell (`float64`, `char(3)`, defaults).
_METADATA_KEY = b"beam_tfscript:column"

_PLAIN_TYPES: dict[str, pa.DataType] = {
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "float": pa.float32(),
    "double": pa.float64(),
    "float64": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.large_string(),
    "varbinary": pa.large_binary(),
    "date": pa.date32(),
}
_KINDS_OF_PLAIN_TYPES = {
    **{arrow: kind for kind, arrow in _PLAIN_TYPES.items() if kind != "float64"},
    pa.float16(): "float",
    pa.string(): "string",
    pa.string_view(): "string",
    pa.binary(): "varbinary",
    pa.binary_view(): "varbinary",
    pa.date64(): "date",
}
_DECIMAL128_DIGITS = 38
_NARROW_OFFSETS = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}


def element_arrow_type(column: Column) -> pa.DataType:
    """Returns the Arrow type of a column's values, or of the elements of its arrays."""
    if column.kind == "decimal":
        make = pa.decimal128 if (column.precision or 0) <= _DECIMAL128_DIGITS else pa.decimal256
        return make(column.precision, column.scale)
    if column.kind == "timestamp":
        return pa.timestamp(column.unit, "UTC")
    if column.kind == "time":
        return pa.time64("us") if column.unit == "us" else pa.time32(column.unit)
    return _PLAIN_TYPES[column.kind]


def arrow_type(column: Column) -> pa.DataType:
    """Returns the Arrow type of a column."""
    arrow = element_arrow_type(column)
    for size in reversed(column.shape):
        arrow = pa.large_list(arrow) if size is None else pa.list_(arrow, size)
    return arrow


def plain_type(arrow: pa.DataType) -> pa.DataType:
    """Returns a type with 32-bit offsets in place of 64-bit ones."""
    if is_type.is_large_list(arrow):
        return pa.list_(plain_type(arrow.value_type))
    if is_type.is_fixed_size_list(arrow):
        return pa.list_(plain_type(arrow.value_type), arrow.list_size)
    return _NARROW_OFFSETS.get(arrow, arrow)


def arrow_field(column: Column) -> pa.Field:
    """Returns the Arrow field of a column; its metadata keep what the Arrow type does not tell."""
    field = pa.field(column.name, arrow_type(column), nullable=column.nullable)
    if _plain_column(field) == column:
        return field
    return field.with_metadata({_METADATA_KEY: str(column)})


def column_from_arrow(field: pa.Field) -> Column:
    """Returns the column of an Arrow field.

    Raises:
      SchemaError: the field's type has no counterpart here.
    """
    text = (field.metadata or {}).get(_METADATA_KEY)
    if text is not None:
        (column,) = Schema.parse(text.decode()).columns
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
            f"Column {field.name!r} has the Arrow type {field.type}, which has no counterpart here: lists nest"
            " two deep, and fixed-size lists stand only in each other."
        )
    return Column(field.name, shape=tuple(shape), nullable=field.nullable, **_element(arrow, field))


def _element(arrow: pa.DataType, field: pa.Field) -> dict[str, Any]:
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
            f"Column {field.name!r} has the Arrow type {field.type}, which has no counterpart here; select other"
            " columns, or cast it first."
        )
    return {"kind": _KINDS_OF_PLAIN_TYPES[arrow]}


def list_array(lengths: np.ndarray, values: pa.Array, valid: np.ndarray | None) -> pa.LargeListArray:
    """Returns lists of the given lengths over `values`; those not `valid` are null, and must have length 0."""
    offsets: np.ndarray = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    mask = None if valid is None else pa.array(~valid)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=mask)


def tensor_array(values: pa.Array, column: Column, valid: np.ndarray | None) -> pa.FixedSizeListArray:
    """Returns tensors over `values`, which hold those that are `valid` only; the others are null."""
    array = values
    for size in reversed(column.shape):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    if valid is None:
        return array
    # Arrow wants something under a null too; taking by null indices lets it put that there.
    places = np.cumsum(valid) - 1
    return array.take(pa.array(np.maximum(places, 0), mask=~valid))

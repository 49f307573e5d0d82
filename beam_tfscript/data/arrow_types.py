"""Arrow types of columns, and arrays of lists and tensors.

The types are Arrow's large lists, strings and binaries throughout, so that no batch can outgrow 32-bit offsets.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyarrow import types as is_type

from beam_tfscript.data.column import Column

__all__ = ["PLAIN_TYPES", "arrow_type", "element_arrow_type", "list_array", "plain_type", "tensor_array"]

PLAIN_TYPES: dict[str, pa.DataType] = {
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
_DECIMAL128_DIGITS = 38
_NARROW_OFFSETS = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}


def element_arrow_type(column: Column) -> pa.DataType:
    """Return the Arrow type of a column's values, or of the elements of its arrays."""
    if column.kind == "decimal":
        make = pa.decimal128 if (column.precision or 0) <= _DECIMAL128_DIGITS else pa.decimal256
        return make(column.precision, column.scale)
    if column.kind == "timestamp":
        return pa.timestamp(column.unit, "UTC")
    if column.kind == "time":
        return pa.time64("us") if column.unit == "us" else pa.time32(column.unit)
    return PLAIN_TYPES[column.kind]


def arrow_type(column: Column) -> pa.DataType:
    """Return the Arrow type of a column."""
    arrow = element_arrow_type(column)
    for size in reversed(column.shape):
        arrow = pa.large_list(arrow) if size is None else pa.list_(arrow, size)
    return arrow


def plain_type(arrow: pa.DataType) -> pa.DataType:
    """Return a type with 32-bit offsets in place of 64-bit ones."""
    if is_type.is_large_list(arrow):
        return pa.list_(plain_type(arrow.value_type))
    if is_type.is_fixed_size_list(arrow):
        return pa.list_(plain_type(arrow.value_type), arrow.list_size)
    return _NARROW_OFFSETS.get(arrow, arrow)


def list_array(lengths: np.ndarray, values: pa.Array, valid: np.ndarray | None) -> pa.LargeListArray:
    """Return an array of lists.

    Args:
      lengths: int64, shape [rows]: number of elements in each list; 0 for null.
      values: the elements of all lists, in order.
      valid: bool, shape [rows]: False for null; None where no list is null.
    """
    offsets: np.ndarray = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    mask = None if valid is None else pa.array(~valid)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=mask)


def tensor_array(values: pa.Array, column: Column, valid: np.ndarray | None) -> pa.FixedSizeListArray:
    """Return an array of tensors.

    Args:
      values: the elements of all tensors that are not null, in order.
      column: gives the tensors' shape.
      valid: bool, shape [rows]: False for null; None where no tensor is null.
    """
    array = values
    for size in reversed(column.shape):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    if valid is None:
        return array
    # A fixed-size list has elements under a null too. A take by null indices makes them.
    indices = np.cumsum(valid) - 1
    return array.take(pa.array(np.maximum(indices, 0), mask=~valid))

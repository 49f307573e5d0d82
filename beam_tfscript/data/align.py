"""Arrow data of related types to Arrow batches of a schema's types.

Input: a record batch or table, whose columns may be in another order and of related types (32-bit offsets,
dictionaries, other integer widths, other time units). Output: a record batch of the schema's own types, or an
error. The data is converted column by column. Values stay the same, except that floats are rounded to 32 bits where
the column is `float`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_type

from beam_tfscript.data.arrow_types import arrow_type, element_arrow_type, list_array, tensor_array
from beam_tfscript.data.column import Column
from beam_tfscript.data.conversion_errors import ConversionError, find_first, shorten
from beam_tfscript.data.kinds import DAY_RANGE
from beam_tfscript.data.near_names import near_names
from beam_tfscript.data.scalars_to_arrow import check_lengths
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import RowError, SchemaError

__all__ = ["align_record_batch"]

_FAMILIES = {
    "integers": is_type.is_integer,
    "floats": is_type.is_floating,
    "booleans": is_type.is_boolean,
    "texts": lambda t: is_type.is_string(t) or is_type.is_large_string(t) or t == pa.string_view(),
    "bytes": lambda t: (
        is_type.is_binary(t) or is_type.is_large_binary(t) or is_type.is_fixed_size_binary(t) or t == pa.binary_view()
    ),
    "dates": is_type.is_date,
    "times": is_type.is_time,
    "timestamps": is_type.is_timestamp,
    "decimals": is_type.is_decimal,
}


def align_record_batch(batch: pa.RecordBatch | pa.Table, schema: Schema) -> pa.RecordBatch:
    """Return the schema's columns of Arrow data, in the schema's order and types.

    Args:
      batch: a record batch or table; columns that the schema does not name are left out.
      schema: the columns to take.

    Raises:
      SchemaError: a column is missing, or its type is of another family than the schema's.
      RowError: a value does not fit the schema's type exactly.
    """
    names = batch.schema.names
    arrays = []
    for column in schema:
        if names.count(column.name) != 1:
            if column.name in names:
                raise SchemaError(f"The Arrow data's column {column.name!r} comes more than once.")
            raise SchemaError(f"The Arrow data's column {column.name!r} is missing{near_names(column.name, names)}")
        array = batch.column(column.name)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        arrays.append(_align(array, column))
    return pa.RecordBatch.from_arrays(arrays, schema=schema.to_arrow())


def _align(array: pa.Array, column: Column) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = _storage(array, column)
    _check_family(array.type, column)
    try:
        return _convert(array, column)
    except ConversionError as error:
        found = find_first(len(array), lambda start, stop: _convert(array.slice(start, stop - start), column))
        index, error = found or (0, error)
        position = f"Row #{index}, column {column.name!r} ({column.type})"
        message = f"{position}: {_value_text(array, index)} {error}."
        raise RowError(message, index=index, column=column.name) from error


def _value_text(array: pa.Array, index: int) -> str:
    """Return a value as a message shows it."""
    try:
        return shorten(array[index].as_py())
    except (OverflowError, ValueError):  # a date or time out of Python's range
        return str(array.slice(index, 1).cast(pa.string())[0].as_py())


def _storage(array: pa.ExtensionArray, column: Column) -> pa.Array:
    """Return the plain lists of an array of Arrow's tensor type."""
    if not isinstance(array.type, pa.FixedShapeTensorType) or tuple(array.type.shape) != column.shape:
        raise _wrong_type(array.type, column)
    values = array.storage.flatten()
    valid = None if not array.null_count else array.storage.is_valid().to_numpy(zero_copy_only=False)
    return tensor_array(values, column, valid)


def _check_family(found: pa.DataType, column: Column) -> None:
    """Raise SchemaError where an Arrow type is not related to the column's."""
    wanted = arrow_type(column)
    plain = found
    while hasattr(wanted, "value_field") and hasattr(plain, "value_field") and not is_type.is_dictionary(plain):
        wanted, plain = wanted.value_type, plain.value_type
    if is_type.is_dictionary(plain):
        plain = plain.value_type
    if is_type.is_null(plain) or (hasattr(wanted, "value_field") and is_type.is_null(found)):
        return
    if is_type.is_integer(plain) and is_type.is_floating(wanted):
        return
    same = any(belongs(plain) and belongs(wanted) for belongs in _FAMILIES.values())
    if not same or hasattr(plain, "value_field"):
        raise _wrong_type(found, column)


def _wrong_type(found: pa.DataType, column: Column) -> SchemaError:
    return SchemaError(
        f"The Arrow data's column {column.name!r} has the type {found}, and the schema's column has {column.type}:"
        " cast the data first, or change the schema."
    )


def _convert(array: pa.Array, column: Column) -> pa.Array:
    if array.null_count and not column.nullable:
        raise ConversionError("is null, but the column is `not null`")
    wanted = arrow_type(column)
    if array.type == wanted:
        converted = array
    elif is_type.is_null(array.type):
        return pa.nulls(len(array), wanted)
    elif column.is_scalar:
        converted = _convert_elements(array, column)
    else:
        return _convert_lists(array, column)
    flat = converted
    for _ in column.shape:
        flat = flat.flatten()
    _check_elements(flat, column)
    return converted


def _convert_lists(array: pa.Array, column: Column) -> pa.Array:
    levels: list[tuple[np.ndarray, np.ndarray | None]] = []
    flat = array
    for size in column.shape:
        valid = None if not flat.null_count else flat.is_valid().to_numpy(zero_copy_only=False)
        if levels and valid is not None:
            raise ConversionError("has an element that is null; only the whole value may be null")
        lengths = flat.value_lengths().fill_null(0).to_numpy()
        if size is not None and ((lengths != size) & (True if valid is None else valid)).any():
            raise ConversionError(f"does not have the shape {column.shape}")
        levels.append((lengths, valid))
        flat = flat.flatten()
    flat = pa.nulls(0, element_arrow_type(column)) if is_type.is_null(flat.type) else _convert_elements(flat, column)
    _check_elements(flat, column)
    if column.is_tensor:
        return tensor_array(flat, column, levels[0][1])
    for lengths, valid in reversed(levels):
        flat = list_array(lengths, flat, valid)
    return flat


def _convert_elements(array: pa.Array, column: Column) -> pa.Array:
    wanted = element_arrow_type(column)
    if is_type.is_dictionary(array.type):
        array = array.dictionary_decode()
    if is_type.is_integer(array.type) and column.kind == "float":
        # Arrow's own cast refuses all integers above 2**24, also those that 32 bits hold exactly, such as 2**30.
        return _to_exact_floats(array, pa.float32())
    if is_type.is_integer(array.type) and is_type.is_floating(wanted):
        return _to_exact_floats(array, pa.float64())
    try:
        converted = array.cast(wanted)
    except pa.ArrowInvalid as error:
        raise ConversionError(f"does not fit {column.element_type} exactly") from error
    if column.kind == "float" and array.type == pa.float64():
        overflown = pc.and_(pc.is_inf(converted), pc.is_finite(array))
        if pc.any(overflown).as_py():
            raise ConversionError("is out of range for float (32 bits); make the column float64")
    return converted


def _to_exact_floats(integers: pa.Array, wanted: pa.DataType) -> pa.Array:
    floats = integers.cast(wanted, safe=False)
    try:
        returned = floats.cast(integers.type)
    except pa.ArrowInvalid as error:
        raise ConversionError(f"is an integer that {wanted} does not hold exactly") from error
    if pc.any(pc.not_equal(returned, integers)).as_py():
        raise ConversionError(f"is an integer that {wanted} does not hold exactly")
    return floats


def _check_elements(flat: pa.Array, column: Column) -> None:
    if flat.null_count and not column.is_scalar:
        raise ConversionError("has an element that is null; only the whole value may be null")
    check_lengths(flat, column)
    if column.kind == "date":
        days = flat.view(pa.int32())
        first, last = DAY_RANGE
        if pc.any(pc.or_(pc.less(days, first), pc.greater(days, last))).as_py():
            raise ConversionError("is out of range for date (years 1 to 9999)")

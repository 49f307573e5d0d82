"""MaxCompute's column types: to columns of schemas, to Arrow types, and from columns for `CREATE TABLE`.

A type comes in as pyodps has it, or as text such as `array<bigint>`. There are types without a counterpart in schemas:
maps, structs and arrays that nest deeper are read and written as JSON text if the caller names them; intervals are not
there.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from beam_tfscript.data.column import Column
from beam_tfscript.errors import SchemaError

__all__ = ["arrow_type_of", "as_type", "base_name", "column_of", "needs_json", "type_of_column"]

# MaxCompute's name -> (kind of the column, Arrow type).
_PLAIN: dict[str, tuple[str, pa.DataType]] = {
    "tinyint": ("tinyint", pa.int8()),
    "smallint": ("smallint", pa.int16()),
    "int": ("int", pa.int32()),
    "bigint": ("bigint", pa.int64()),
    "float": ("float", pa.float32()),
    "double": ("double", pa.float64()),
    "boolean": ("boolean", pa.bool_()),
    "string": ("string", pa.string()),
    "varchar": ("string", pa.string()),
    "char": ("string", pa.string()),
    # A JSON value travels as its text.
    "json": ("string", pa.string()),
    "binary": ("varbinary", pa.binary()),
    "date": ("date", pa.date32()),
    "datetime": ("timestamp", pa.timestamp("ms")),
    "timestamp": ("timestamp", pa.timestamp("ns")),
    "timestamp_ntz": ("timestamp", pa.timestamp("ns")),
}
_UNITS = {"datetime": "ms", "timestamp": "ns", "timestamp_ntz": "ns"}
# A decimal without digits is of MaxCompute's first type system: https://www.alibabacloud.com/help/en/maxcompute.
_OLD_DECIMAL = (54, 18)
_DECIMAL128_DIGITS = 38

# Kind -> MaxCompute's type. Unsigned integers become the next wider type.
_NAMES = {
    "tinyint": "TINYINT",
    "smallint": "SMALLINT",
    "int": "INT",
    "bigint": "BIGINT",
    "uint8": "SMALLINT",
    "uint16": "INT",
    "uint32": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "float64": "DOUBLE",
    "boolean": "BOOLEAN",
    "string": "STRING",
    "varbinary": "BINARY",
    "date": "DATE",
}
_MAX_DECIMAL = (38, 18)
_MAX_CHAR, _MAX_VARCHAR = 255, 65535


def as_type(text: str) -> Any:
    """Return pyodps's type of a text such as `array<bigint>`."""
    from odps.types import validate_data_type

    return validate_data_type(text)


def base_name(odps_type: Any) -> str:
    """Return the name of a type without its arguments, such as `array` or `decimal`."""
    return re.split(r"[<(]", odps_type.name, maxsplit=1)[0]


def column_of(name: str, odps_type: Any, *, nullable: bool = True, as_json: bool = False) -> Column:
    """Return the schema's column for a column of a table.

    Args:
      name: the column's name.
      odps_type: pyodps's type.
      nullable: False for `NOT NULL` columns.
      as_json: True to read a type without a counterpart as JSON text.

    Raises:
      SchemaError: the type has no counterpart.
    """
    element, depth = odps_type, 0
    while base_name(element) == "array" and depth < 2:
        element, depth = element.value_type, depth + 1
    shape, base = (None,) * depth, base_name(element)
    if base == "decimal":
        precision, scale = _digits(element)
        return Column(name, "decimal", shape, nullable, precision=precision, scale=scale)
    if base in _PLAIN:
        length = element.size_limit if base in ("varchar", "char") else None
        return Column(name, _PLAIN[base][0], shape, nullable, unit=_UNITS.get(base), length=length)
    if as_json and needs_json(odps_type):
        return Column(name, "string", (), nullable)
    raise SchemaError(f"Column {name!r} has the MaxCompute type {odps_type.name}, which {_why_not(odps_type)}.")


def needs_json(odps_type: Any) -> bool:
    """Return True for maps, structs, and arrays of such or of arrays of arrays, of elements that JSON can hold."""
    if base_name(odps_type) not in ("map", "struct", "array"):
        return False
    try:
        arrow_type_of(odps_type)
    except SchemaError:
        return False
    element, depth = odps_type, 0
    while base_name(element) == "array":
        element, depth = element.value_type, depth + 1
    return depth > 2 or base_name(element) in ("map", "struct")


def arrow_type_of(odps_type: Any) -> pa.DataType:
    """Return the Arrow type in which the service sends and takes a type's values.

    Raises:
      SchemaError: the type is not read or written here.
    """
    base = base_name(odps_type)
    if base in _PLAIN:
        return _PLAIN[base][1]
    if base == "decimal":
        precision, scale = _digits(odps_type)
        return (pa.decimal128 if precision <= _DECIMAL128_DIGITS else pa.decimal256)(precision, scale)
    if base == "array":
        return pa.list_(arrow_type_of(odps_type.value_type))
    if base == "map":
        return pa.map_(arrow_type_of(odps_type.key_type), arrow_type_of(odps_type.value_type))
    if base == "struct":
        return pa.struct([(name, arrow_type_of(inner)) for name, inner in odps_type.field_types.items()])
    raise SchemaError(f"The MaxCompute type {odps_type.name} {_why_not(odps_type)}.")


def type_of_column(column: Column) -> str:
    """Return the MaxCompute type for a new table's column.

    Raises:
      SchemaError: MaxCompute has no such type.
    """
    return "ARRAY<" * len(column.shape) + _element_type(column) + ">" * len(column.shape)


def _element_type(column: Column) -> str:
    if column.kind == "decimal":
        precision, scale = column.precision or 0, column.scale or 0
        if precision > _MAX_DECIMAL[0] or scale > _MAX_DECIMAL[1]:
            raise SchemaError(
                f"Column `{column}` does not fit MaxCompute's decimals, which have at most {_MAX_DECIMAL[0]} digits, "
                f"{_MAX_DECIMAL[1]} of them after the point: use a smaller decimal, or string."
            )
        return f"DECIMAL({precision},{scale})"
    if column.kind == "timestamp":
        return "DATETIME" if column.unit in ("s", "ms") else "TIMESTAMP"
    if column.kind == "time":
        raise SchemaError(f"Column `{column}`: MaxCompute has no type for a time of day. Use bigint or string.")
    if column.kind == "string" and column.length is not None:
        if column.fixed_length and column.length <= _MAX_CHAR:
            return f"CHAR({column.length})"
        return f"VARCHAR({column.length})" if column.length <= _MAX_VARCHAR else "STRING"
    return _NAMES[column.kind]


def _digits(decimal: Any) -> tuple[int, int]:
    if decimal.precision is None:
        return _OLD_DECIMAL
    return decimal.precision, decimal.scale or 0


def _why_not(odps_type: Any) -> str:
    if needs_json(odps_type):
        return (
            "has no counterpart in schemas: name the column in as_json to get its values as JSON text, or leave it out"
        )
    return (
        "is not read or written here, nor are types that contain it: leave the column out, or CAST it to a string in "
        "a view or a query"
    )

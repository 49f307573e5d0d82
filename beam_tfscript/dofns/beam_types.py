"""Beam's row types to schemas, and schemas to Beam's row types.

In come the element type of a PCollection, or a schema. Out go the schema of the elements, or None if they have none;
and the class of output rows, with a function that makes such rows from an Arrow batch. Beam itself makes that class
from the schema. So rows keep their class through shuffles, `beam.Select` and `beam.GroupBy` know the fields, and other
languages can read the rows.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import functools
import keyword
import types
import typing
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
import pyarrow as pa
from apache_beam.portability.api import schema_pb2
from apache_beam.typehints import row_type, schemas
from apache_beam.utils.timestamp import Timestamp

from beam_tfscript.data.column import Column
from beam_tfscript.data.near_names import near_names
from beam_tfscript.data.rows import record_batch_to_columns
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import SchemaError

__all__ = ["beam_rows", "beam_timestamps", "row_class", "row_hint", "schema_of"]

# Field option that holds the text of the column, since Beam's field type does not tell all of it.
_OPTION = "beam_tfscript:column"
# Beam's coder of decimals uses Python's default context, which rounds to this many digits:
# https://docs.python.org/3/library/decimal.html#decimal.DefaultContext
_BEAM_DIGITS = 28
# Namespace of the ids of row classes.
_NAMESPACE = uuid.UUID("5d4bb6b8-70a5-4b9e-9c5c-0f6a4a2d3f1e")

_TYPES: dict[str, Any] = {
    # Beam's coder of 8-bit integers fails on negative numbers.
    "tinyint": np.int16,
    "smallint": np.int16,
    "int": np.int32,
    "bigint": np.int64,
    # Beam has no unsigned integers.
    "uint8": np.int16,
    "uint16": np.int32,
    "uint32": np.int64,
    "float": np.float32,
    "double": np.float64,
    "float64": np.float64,
    "boolean": bool,
    "string": str,
    "varbinary": bytes,
    "date": datetime.date,
    "timestamp": Timestamp,
    "decimal": decimal.Decimal,
}
_UNSIGNED = {np.uint8: "uint8", np.uint16: "uint16", np.uint32: "uint32"}
_WIDENED = ("tinyint", "float64", "decimal", *_UNSIGNED.values())
_KINDS: dict[Any, str] = {
    **{beam: kind for kind, beam in _TYPES.items() if kind not in _WIDENED},
    np.int8: "tinyint",
}


def schema_of(element_type: Any, *, columns: Iterable[str] | None = None) -> Schema | None:
    """Return the schema of a PCollection's elements.

    Args:
      element_type: the PCollection's `element_type`.
      columns: names of the columns of the schema, in order; None for all columns. Other columns may have any type.

    Returns:
      The schema; None for elements without a Beam schema, such as dicts and bytes.

    Raises:
      SchemaError: there is no such column, or a column has a Beam type that no column type stands for.
    """
    proto = _beam_schema(element_type)
    if proto is None:
        return None
    fields = {field.name: field for field in proto.fields}
    names = list(fields) if columns is None else list(columns)
    for name in names:
        if name not in fields:
            raise SchemaError(f"There is no column {name!r}{near_names(name, fields)}")
    return Schema(tuple(_column(fields[name]) for name in names))


@functools.lru_cache(maxsize=256)
def row_class(schema: Schema) -> type:
    """Return the NamedTuple class of the rows of a schema, which can also be the PCollection's type hint.

    Args:
      schema: the rows' columns.

    Raises:
      SchemaError: a column's name cannot be a field of a NamedTuple.
    """
    for name in schema.names:
        if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
            raise SchemaError(
                f"Column {name!r} cannot be a field of a row: names of output columns must be Python identifiers, no "
                "keywords, without a leading underscore. Rename the column, or use another output_as."
            )
    # A schema has the same id in every process, so that rows unpickle to the same class.
    schema_id = str(uuid.uuid5(_NAMESPACE, str(schema)))
    proto = schemas.named_fields_to_schema(
        [(column.name, _beam_type(column)) for column in schema],
        schema_id=schema_id,
        field_options={column.name: [(_OPTION, str(column))] for column in schema},
    )
    return schemas.named_tuple_from_schema(proto)


def row_hint(schema: Schema) -> row_type.RowTypeConstraint:
    """Return the type hint of a PCollection of rows of a schema.

    With this hint, transforms such as `beam.Select` know the types of the fields; with the class alone they do not.

    Args:
      schema: the rows' columns.
    """
    hint = row_type.RowTypeConstraint.from_user_type(row_class(schema))
    assert hint is not None
    return hint


def beam_rows(batch: pa.RecordBatch, schema: Schema) -> Iterator[Any]:
    """Convert a batch to an iterator of rows of `row_class(schema)`, which makes one row at a time.

    Args:
      batch: a batch of `schema.to_arrow()`.
      schema: columns of the batch.
    """
    columns = record_batch_to_columns(batch, schema, timestamps=beam_timestamps)
    # The same as the class's `_make`, without a Python call per row.
    return map(functools.partial(tuple.__new__, row_class(schema)), zip(*columns))


def beam_timestamps(units: list[int | None], unit: str) -> list[Timestamp | None]:
    """Return Beam's timestamps for times since 1970-01-01T00:00Z.

    Args:
      units: the times as whole numbers; None stays None.
      unit: `s`, `ms`, `us` or `ns`.
    """
    if unit == "ns":
        return [None if n is None else Timestamp(0, n, precision=9) for n in units]
    micros = {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
    return [None if n is None else Timestamp(micros=n * micros) for n in units]


def _beam_schema(element_type: Any) -> schema_pb2.Schema | None:
    """Return the Beam schema of an element type, with the options that `row_class` sets; None if it has none."""
    if isinstance(element_type, row_type.RowTypeConstraint):
        user_type = element_type.user_type
        known = schemas.SCHEMA_REGISTRY.get_schema_by_id(element_type.schema_id)
        fields = list(element_type._fields)
    elif isinstance(element_type, type) and (
        dataclasses.is_dataclass(element_type) or row_type.match_is_named_tuple(element_type)
    ):
        user_type = element_type
        known = schemas.SCHEMA_REGISTRY.get_schema_by_id(element_type.__dict__.get(row_type._BEAM_SCHEMA_ID))
        fields = list(_hints(user_type).items())
    else:
        return None
    # In a module with `from __future__ import annotations`, hints are text, which Beam takes for Any.
    if any(isinstance(hint, str) for hint in getattr(user_type, "__annotations__", {}).values()):
        fields = list(_hints(user_type).items())
        known = None
    # Beam takes unsigned integers for Any too: an option keeps their type.
    options = {name: [(_OPTION, str(column))] for name, hint in fields if (column := _unsigned(name, hint))}
    if known is not None and not options:
        return known
    return schemas.named_fields_to_schema([(name, _optional(hint)) for name, hint in fields], field_options=options)


def _unsigned(name: str, hint: Any) -> Column | None:
    """Return the column of a field of numpy's unsigned integers, or of lists of them; else None."""
    inner, is_optional = _without_none(hint)
    shape: list[None] = []
    while inner not in _UNSIGNED and len(shape) < 2:
        # The element type: Beam's own type hints have it as an attribute, Python's as an argument.
        element = getattr(inner, "inner_type", None)
        if element is None and isinstance(typing.get_origin(inner), type):
            element = typing.get_args(inner)[0] if issubclass(typing.get_origin(inner), Iterable) else None
        if element is None:
            return None
        inner = element
        shape.append(None)
    kind = _UNSIGNED.get(inner)
    return None if kind is None else Column(name, kind, shape=tuple(shape), nullable=is_optional)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return the type inside an Optional, and True; for any other type the type itself, and False."""
    union = getattr(hint, "union_types", None) or (
        typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    )
    members = [member for member in union if member is not type(None)]
    return (members[0], True) if len(members) == 1 and len(union) == 2 else (hint, False)


def _optional(hint: Any) -> Any:
    """Return `Optional[X]` for `X | None`, since Beam takes the latter for Any."""
    return typing.Union[hint.__args__] if isinstance(hint, types.UnionType) else hint  # noqa: UP007


def _hints(user_type: type) -> dict[str, Any]:
    """Return the types of a class's fields, also if its module has `from __future__ import annotations`."""
    if dataclasses.is_dataclass(user_type):
        names = [field.name for field in dataclasses.fields(user_type)]
    else:
        names = list(user_type._fields)  # type: ignore[attr-defined]
    hints = typing.get_type_hints(user_type)
    return {name: hints.get(name, Any) for name in names}


def _column(field: schema_pb2.Field) -> Column:
    """Return the column of a Beam field."""
    for option in field.options:
        if option.name == _OPTION:
            (column,) = Schema.parse(option.value.atomic_value.string).columns
            return column
    shape: list[None] = []
    element = field.type
    while (info := element.WhichOneof("type_info")) in ("array_type", "iterable_type") and len(shape) < 2:
        shape.append(None)
        element = getattr(element, info).element_type
    kind = _kind(element)
    if kind is None or (shape and element.nullable):
        raise SchemaError(
            f"Column {field.name!r} has the Beam type {_type_text(field.type)}, which no column type stands for: leave "
            f"the column out with selected_cols, or give its type with input_schema='{field.name} ..., ...'."
        )
    unit = "us" if kind == "timestamp" else None
    return Column(field.name, kind, shape=tuple(shape), nullable=field.type.nullable, unit=unit)


def _kind(element: schema_pb2.FieldType) -> str | None:
    bare = schema_pb2.FieldType()
    bare.CopyFrom(element)
    bare.nullable = False
    if bare.WhichOneof("type_info") not in ("atomic_type", "logical_type"):
        return None
    try:
        return _KINDS.get(schemas.typing_from_runner_api(bare))
    except ValueError:  # a logical type of another SDK
        return None


def _type_text(field_type: schema_pb2.FieldType) -> str:
    try:
        return str(schemas.typing_from_runner_api(field_type))
    except ValueError:  # a logical type of another SDK
        return field_type.logical_type.urn


def _beam_type(column: Column) -> Any:
    """Return the Python type that stands for a column in Beam's type hints."""
    if column.is_tensor or column.kind == "time" or column.unit == "ns" or (column.precision or 0) > _BEAM_DIGITS:
        # Values of Any are pickled. As a sequence, a tensor would be coded number by number, and be a list after a
        # shuffle. Beam has no type for times of day, for timestamps finer than microseconds or for long decimals.
        return Any
    hint: Any = _TYPES[column.kind]
    for _ in column.shape:
        hint = types.GenericAlias(Sequence, (hint,))
    # Beam knows Optional, but takes `X | None` for Any.
    return Optional[hint] if column.nullable else hint  # noqa: UP045

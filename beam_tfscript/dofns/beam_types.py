"""Beam's types to schemas and back.

Comes in: the element type of a PCollection, or a schema. Goes out: the schema of the elements, or None where they have
none; and the class of the rows that go downstream, with the function that makes them from an Arrow batch. The class
is the one that Beam itself makes for such a schema, so that rows keep their class through shuffles, `beam.Select`
and `beam.GroupBy` know the fields, and other languages can read them.
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

# Field option with the column's text, for what Beam's field type does not tell.
_OPTION = "beam_tfscript:column"
# Beam's coder of decimals works in Python's default context, which rounds to this many digits.
_BEAM_DIGITS = 28
_NAMESPACE = uuid.UUID("5d4bb6b8-70a5-4b9e-9c5c-0f6a4a2d3f1e")

_TYPES: dict[str, Any] = {
    # Beam's coder of 8-bit integers fails on negative ones.
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
    """Returns the schema of a PCollection's elements.

    Args:
      element_type: the PCollection's `element_type`.
      columns: names of those that are wanted, in order; others may have types that have no counterpart here.

    Returns:
      The schema; None where the elements have none, as dicts and bytes.

    Raises:
      SchemaError: there is no such column, or one has a type that has no counterpart here.
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
    """Returns the NamedTuple class of the rows of a schema; it also is the PCollection's type hint.

    Args:
      schema: the rows' columns.

    Raises:
      SchemaError: a column's name cannot be a field of a NamedTuple.
    """
    for name in schema.names:
        if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
            raise SchemaError(
                f"Column {name!r} cannot be a field of a row: the names of output columns must be Python"
                " identifiers, not keywords, and not start with an underscore."
            )
    # The same schema has the same id in every process, so that rows unpickle to the same class.
    schema_id = str(uuid.uuid5(_NAMESPACE, str(schema)))
    proto = schemas.named_fields_to_schema(
        [(column.name, _beam_type(column)) for column in schema],
        schema_id=schema_id,
        field_options={column.name: [(_OPTION, str(column))] for column in schema},
    )
    return schemas.named_tuple_from_schema(proto)


def row_hint(schema: Schema) -> row_type.RowTypeConstraint:
    """Returns the type hint of a PCollection of such rows.

    With it, `beam.Select` and the like know the fields' types, which they would not from the class.

    Args:
      schema: the rows' columns.
    """
    hint = row_type.RowTypeConstraint.from_user_type(row_class(schema))
    assert hint is not None
    return hint


def beam_rows(batch: pa.RecordBatch, schema: Schema) -> Iterator[Any]:
    """Converts a batch to rows of `row_class(schema)`, each when it is asked for.

    Args:
      batch: a batch of `schema.to_arrow()`.
      schema: its columns.
    """
    columns = record_batch_to_columns(batch, schema, timestamps=beam_timestamps)
    # What the class's own `_make` does, less a call of Python for each row.
    return map(functools.partial(tuple.__new__, row_class(schema)), zip(*columns))


def beam_timestamps(units: list[int | None], unit: str) -> list[Timestamp | None]:
    """Returns Beam's timestamps for numbers of a unit since the epoch; None stays None."""
    if unit == "ns":
        return [None if n is None else Timestamp(0, n, precision=9) for n in units]
    micros = {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
    return [None if n is None else Timestamp(micros=n * micros) for n in units]


def _beam_schema(element_type: Any) -> schema_pb2.Schema | None:
    """Returns the Beam schema of an element type, with the options that `row_class` has set."""
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
    # Of a class whose module has put off its annotations, Beam itself only knows that its fields are of Any type.
    if any(isinstance(hint, str) for hint in getattr(user_type, "__annotations__", {}).values()):
        fields = list(_hints(user_type).items())
        known = None
    # Beam takes unsigned integers for Any too: an option keeps what they are.
    options = {name: [(_OPTION, str(column))] for name, hint in fields if (column := _unsigned(name, hint))}
    if known is not None and not options:
        return known
    return schemas.named_fields_to_schema([(name, _optional(hint)) for name, hint in fields], field_options=options)


def _unsigned(name: str, hint: Any) -> Column | None:
    """Returns the column of a field of numpy's unsigned integers, or of lists of them; else None."""
    inner, is_optional = _without_none(hint)
    shape: list[None] = []
    while inner not in _UNSIGNED and len(shape) < 2:
        # Beam's own type hints have an attribute where Python's have arguments.
        found = getattr(inner, "inner_type", None)
        if found is None and isinstance(typing.get_origin(inner), type):
            found = typing.get_args(inner)[0] if issubclass(typing.get_origin(inner), Iterable) else None
        if found is None:
            return None
        inner = found
        shape.append(None)
    kind = _UNSIGNED.get(inner)
    return None if kind is None else Column(name, kind, shape=tuple(shape), nullable=is_optional)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Returns the type in an Optional, and True; another type as it is, and False."""
    union = getattr(hint, "union_types", None) or (
        typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    )
    others = [one for one in union if one is not type(None)]
    return (others[0], True) if len(others) == 1 and len(union) == 2 else (hint, False)


def _optional(hint: Any) -> Any:
    """Returns `X | None` as Optional[X], since Beam takes the former for Any."""
    return typing.Union[hint.__args__] if isinstance(hint, types.UnionType) else hint  # noqa: UP007


def _hints(user_type: type) -> dict[str, Any]:
    """Returns the types of a class's fields, also where its module has put off the annotations."""
    if dataclasses.is_dataclass(user_type):
        names = [field.name for field in dataclasses.fields(user_type)]
    else:
        names = list(user_type._fields)  # type: ignore[attr-defined]
    hints = typing.get_type_hints(user_type)
    return {name: hints.get(name, Any) for name in names}


def _column(field: schema_pb2.Field) -> Column:
    """Returns the column of a Beam field."""
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
            f"Column {field.name!r} has the Beam type {_type_text(field.type)}, which has no counterpart here;"
            f" select other columns, or say what it holds with input_schema='{field.name} ..., ...'."
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
    """Returns the Python type that stands for a column in Beam's type hints."""
    if column.is_tensor or column.kind == "time" or column.unit == "ns" or (column.precision or 0) > _BEAM_DIGITS:
        # Pickled whole. As a sequence, a tensor would be coded number by number and come out of a shuffle as a
        # list; and Beam has no type for times of day, for timestamps finer than microseconds or for long decimals.
        return Any
    hint: Any = _TYPES[column.kind]
    for _ in column.shape:
        hint = types.GenericAlias(Sequence, (hint,))
    # Beam knows Optional, but takes `X | None` for Any.
    return Optional[hint] if column.nullable else hint  # noqa: UP045

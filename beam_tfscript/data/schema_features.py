"""Schemas and TensorFlow's own descriptions of Examples.

Input: a schema. Output: the TensorFlow Metadata schema, as TFX and TensorFlow Data Validation read it, or the
`feature_spec` that `tf.io.parse_example` takes; and from either, a schema. docs/types.md offers these four functions
to users; the package itself calls none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from beam_tfscript.data.column import Column
from beam_tfscript.data.kinds import INTEGER_RANGES
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import SchemaError
from beam_tfscript.runtime.columns import columns_from_wire
from beam_tfscript.runtime.reading.reader import feature_spec

__all__ = ["schema_from_feature_spec", "schema_from_metadata", "schema_to_feature_spec", "schema_to_metadata"]

# Start of a feature's annotation with the column's text, which holds more than the rest of the feature.
_TAG = "beam_tfscript:"
_METADATA_TYPES = {"int64": schema_pb2.INT, "float": schema_pb2.FLOAT, "bytes": schema_pb2.BYTES}
_KINDS_OF_METADATA = {schema_pb2.INT: "bigint", schema_pb2.FLOAT: "float", schema_pb2.BYTES: "string"}
_KINDS_OF_DTYPES = {"int64": "bigint", "float32": "float", "string": "string"}


def schema_to_metadata(schema: Schema) -> schema_pb2.Schema:
    """Return the TensorFlow Metadata schema of Examples of a schema."""
    metadata = schema_pb2.Schema()
    for column in schema:
        feature = metadata.feature.add(name=column.name, type=_METADATA_TYPES[column.feature])
        feature.annotation.tag.append(_TAG + str(column))
        feature.presence.min_count = 0 if column.nullable else 1
        if not column.nullable:
            feature.presence.min_fraction = 1.0
        _describe(feature, column)
        if column.row_lengths:
            lengths = metadata.feature.add(name=column.row_lengths, type=schema_pb2.INT)
            lengths.value_count.min = 0
            representation = metadata.tensor_representation_group[""].tensor_representation[column.name]
            representation.ragged_tensor.feature_path.step.append(column.name)
            representation.ragged_tensor.partition.add(row_length=column.row_lengths)
    return metadata


def _describe(feature: schema_pb2.Feature, column: Column) -> None:
    """Set a feature's shape and domain."""
    if column.is_packed:
        feature.shape.SetInParent()  # one value, which has no domain
        return
    if column.is_array or column.is_ragged:
        feature.value_count.min = 0
    else:
        feature.shape.SetInParent()
        for size in column.shape:
            feature.shape.dim.add(size=size)
    if column.kind in INTEGER_RANGES and column.kind != "bigint":
        feature.int_domain.min, feature.int_domain.max = INTEGER_RANGES[column.kind]
    elif column.kind == "boolean":
        feature.bool_domain.SetInParent()


def schema_from_metadata(metadata: schema_pb2.Schema) -> Schema:
    """Return the schema of a TensorFlow Metadata schema.

    A bytes feature that `schema_to_metadata` has not made becomes a `string` column.

    Raises:
      SchemaError: a feature has no counterpart here.
    """
    columns, lengths = [], set()
    for feature in metadata.feature:
        if feature.name in lengths:
            continue
        column = _column_of_tag(feature) or _column_of_feature(feature)
        if column.row_lengths:
            lengths.add(column.row_lengths)
        columns.append(column)
    return Schema(tuple(columns))


def _column_of_tag(feature: schema_pb2.Feature) -> Column | None:
    for tag in feature.annotation.tag:
        if tag.startswith(_TAG):
            (column,) = Schema.parse(tag[len(_TAG) :]).columns
            if column.name == feature.name and _METADATA_TYPES[column.feature] == feature.type:
                return column
    return None


def _column_of_feature(feature: schema_pb2.Feature) -> Column:
    kind = _KINDS_OF_METADATA.get(feature.type)
    if kind is None:
        raise SchemaError(f"Feature {feature.name!r} is neither INT, FLOAT nor BYTES.")
    if kind == "bigint" and feature.HasField("bool_domain"):
        kind = "boolean"
    elif kind == "bigint" and feature.HasField("int_domain") and not feature.int_domain.is_categorical:
        kind = _narrowest(feature.int_domain)
    nullable = feature.presence.min_fraction < 1.0
    shape: tuple[int | None, ...] = (None,)
    if feature.HasField("shape"):
        shape = tuple(dim.size for dim in feature.shape.dim)
    elif feature.value_count.min == feature.value_count.max == 1:
        shape = ()
    return Column(feature.name, kind, shape=shape, nullable=nullable)


def _narrowest(domain: schema_pb2.IntDomain) -> str:
    """Return the integer type that has exactly this domain, else bigint."""
    for kind, limits in INTEGER_RANGES.items():
        if (domain.min, domain.max) == limits:
            return kind
    return "bigint"


def schema_to_feature_spec(schema: Schema) -> dict[str, Any]:
    """Return the feature spec that `tf.io.parse_example` takes to parse Examples of a schema. Imports TensorFlow.

    Scalars and tensors are FixedLenFeatures, arrays VarLenFeatures. Arrays and tensors of `uint8` are one value of
    bytes each, for `tf.io.decode_raw`. `config.feature_spec` is the same in the script.
    """
    return feature_spec(columns_from_wire(schema.to_wire()))


def schema_from_feature_spec(spec: Mapping[str, Any]) -> Schema:
    """Return the schema of a `feature_spec`, which holds only shapes and the types bigint, float and string.

    A FixedLenFeature without a default is `not null`; a VarLenFeature is an array.

    Raises:
      SchemaError: a feature is of another class, or no Example has its dtype.
    """
    columns, names = [], set(spec)
    for name, feature in spec.items():
        kind = _KINDS_OF_DTYPES.get(getattr(getattr(feature, "dtype", None), "name", ""))
        family = type(feature).__name__
        if kind is None or family not in ("FixedLenFeature", "VarLenFeature"):
            raise SchemaError(
                f"Feature {name!r} of the feature_spec is {feature!r}: only FixedLenFeature and VarLenFeature of"
                " int64, float32 or string have a counterpart here."
            )
        if any(Column(other, "string", shape=(None, None)).row_lengths == name for other in names):
            continue
        columns.append(_column_of_spec(name, kind, feature, names))
    return Schema(tuple(columns))


def _column_of_spec(name: str, kind: str, feature: Any, names: set[str]) -> Column:
    if type(feature).__name__ == "VarLenFeature":
        ragged = Column(name, kind, shape=(None, None))
        return ragged if ragged.row_lengths in names else Column(name, kind, shape=(None,))
    shape = tuple(feature.shape)
    default = feature.default_value
    nullable = default is not None
    if shape or not nullable:
        return Column(name, kind, shape=shape, nullable=nullable)
    if kind == "string":
        default = default.decode() if isinstance(default, bytes) else str(default)
    else:
        default = int(default) if kind == "bigint" else float(default)
    return Column(name, kind, default=default)

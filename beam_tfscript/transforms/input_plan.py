"""What the input is: its form and its columns, from the PCollection's type and the arguments."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
from apache_beam.pvalue import PCollection

from beam_tfscript.data.encoding import MESSAGES, RowEncoder
from beam_tfscript.dofns.beam_types import schema_of
from beam_tfscript.errors import ArgumentError, SchemaError
from beam_tfscript.options.script_options import ScriptOptions

_THREE_WAYS = (
    'There are three ways to give one: input_schema="id string, x array<float>" in the call; elements that are '
    "beam.Row or a NamedTuple with types, as in beam.Map(lambda r: beam.Row(id=str(r.id), x=float(r.x))); or "
    ".with_output_types(...) on the transform before, with such a type, or with bytes for serialized tf.train.Examples."
)


# Beam's readers whose elements are Arrow tables, which their element type does not tell.
_ARROW_READERS = ("ReadFromParquetBatched", "ReadAllFromParquetBatched")
_ARROW_WAY = (
    'Give input_schema="id string, x array<float>" in the call, with the columns that the script needs. '
    "input_schema=Schema.from_arrow(pyarrow.parquet.read_schema(path)) takes those of a file "
    "(from beam_tfscript.data.schema import Schema)."
)


def plan_input(
    element_type: Any, options: ScriptOptions, *, reader: str | None = None
) -> tuple[ScriptOptions, RowEncoder]:
    """How elements of this type are encoded.

    Args:
      element_type: the PCollection's.
      options: the transform's arguments.
      reader: what `reader_of` returned, for errors.

    Returns:
      The options with the schema of what the script is given, and the encoder of the elements.

    Raises:
      ArgumentError, SchemaError: the type cannot be used, or a column is not in the schema.
    """
    schema = options.input_schema or schema_of(element_type, columns=_needed_columns(options))
    if schema is None and (reader or is_arrow(element_type)):
        source = f"{reader} gives" if reader else "the elements are"
        raise ArgumentError(
            f"The columns of the input are not known: {source} Arrow tables or batches, whose columns show only when "
            f"the pipeline runs. {_ARROW_WAY}"
        )
    if schema is None and not _is_serialized(element_type):
        raise ArgumentError(f"The columns of the input are not known: its elements are {element_type}. {_THREE_WAYS}")
    if schema is None:
        for argument in ("selected_cols", "shard_by"):
            if getattr(options, argument) is not None:
                raise ArgumentError(f"{argument} needs input_schema, since the elements are serialized Examples.")
        return options, RowEncoder(None)
    try:
        selected = schema if options.selected_cols is None else schema.select(options.selected_cols)
        if options.shard_by is not None:
            schema.select([options.shard_by])
    except SchemaError as error:
        raise SchemaError(f"selected_cols or shard_by: {error} The input's columns are: {schema}") from error
    encoder = RowEncoder(schema, selected, shard_by=options.shard_by)
    return dataclasses.replace(options, input_schema=selected), encoder


def _needed_columns(options: ScriptOptions) -> list[str] | None:
    """The columns that are used of rows with more; None for all of them."""
    if options.selected_cols is None:
        return None
    names = list(options.selected_cols)
    if options.shard_by is not None and options.shard_by not in names:
        names.append(options.shard_by)
    return names


def reader_of(rows: PCollection) -> str | None:
    """The name of Beam's reader that gives a PCollection, where its elements are Arrow tables."""
    step = rows.producer
    while step is not None:
        name = type(step.transform).__name__
        if name in _ARROW_READERS:
            return name
        # An outer composite that gives other elements is not the reader.
        step = step.parent if step.parent is not None and rows in step.parent.outputs.values() else None
    return None


def is_arrow(element_type: Any) -> bool:
    """Whether the elements are Arrow record batches or tables, of many rows each."""
    return isinstance(element_type, type) and issubclass(element_type, (pa.RecordBatch, pa.Table))


def _is_serialized(element_type: Any) -> bool:
    name = getattr(getattr(element_type, "DESCRIPTOR", None), "full_name", None)
    return element_type is bytes or name in MESSAGES

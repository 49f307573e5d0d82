"""Plan of the input: its form and its columns, from the PCollection's type and the arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apache_beam.pvalue import PCollection

from beam_tfscript.data.batch_hints import columns_of_batches
from beam_tfscript.data.encoding import ARROW, MESSAGES, RowEncoder
from beam_tfscript.data.example_chunk import ExampleChunk
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.beam_types import schema_of
from beam_tfscript.errors import ArgumentError, SchemaError

_THREE_WAYS = (
    'There are three ways to give one: input_schema="id string, x array<float>" in the call; elements that are '
    "beam.Row or a NamedTuple with types, as in beam.Map(lambda r: beam.Row(id=str(r.id), x=float(r.x))); or "
    ".with_output_types(...) on the transform before, with such a type, or with bytes for serialized tf.train.Examples."
)


# Beam's readers whose elements are Arrow tables. Their element type does not have the columns.
_ARROW_READERS = ("ReadFromParquetBatched", "ReadAllFromParquetBatched")
_ARROW_WAY = (
    'Give input_schema="id string, x array<float>" in the call, with the columns that the script needs. '
    "input_schema=Schema.from_arrow(pyarrow.parquet.read_schema(path)) takes those of a file "
    "(from beam_tfscript.data.schema import Schema)."
)


def plan_input(
    element_type: Any,
    input_schema: Schema | None,
    *,
    selected_cols: Sequence[str] | None = None,
    shard_by: str | None = None,
    reader: str | None = None,
) -> tuple[Schema | None, RowEncoder]:
    """Return (the columns that the script is given, the encoder of the elements).

    The columns are None for serialized Examples that are passed on unread.

    Args:
      element_type: the PCollection's element type.
      input_schema: the columns; None for those of the element type.
      selected_cols, shard_by: the transform's arguments.
      reader: the return value of `reader_of`, for errors.

    Raises:
      ArgumentError, SchemaError: the type cannot be used, or a column is not in the schema.
    """
    schema = input_schema or columns_of_batches(element_type)
    schema = schema or schema_of(element_type, columns=_needed_columns(selected_cols, shard_by))
    if schema is None:
        _check_unread(element_type, selected_cols=selected_cols, shard_by=shard_by, reader=reader)
        return None, RowEncoder(None)
    try:
        selected = schema if selected_cols is None else schema.select(selected_cols)
        if shard_by is not None:
            schema.select([shard_by])
    except SchemaError as error:
        raise SchemaError(f"selected_cols or shard_by: {error} The input's columns are: {schema}") from error
    return selected, RowEncoder(schema, selected, shard_by=shard_by)


def _check_unread(element_type: Any, *, reader: str | None, **column_arguments: Any) -> None:
    """Refuse elements without known columns, unless they are serialized Examples and no argument names a column."""
    if reader or is_arrow(element_type):
        source = f"{reader} gives" if reader else "the elements are"
        raise ArgumentError(
            f"The columns of the input are not known: {source} Arrow tables or batches, whose columns are known only "
            f"when the pipeline runs. {_ARROW_WAY}"
        )
    if not _is_serialized(element_type):
        raise ArgumentError(f"The columns of the input are not known: its elements are {element_type}. {_THREE_WAYS}")
    for name, value in column_arguments.items():
        if value is not None:
            raise ArgumentError(f"{name} needs input_schema, since the elements are serialized Examples.")


def _needed_columns(selected_cols: Sequence[str] | None, shard_by: str | None) -> list[str] | None:
    """Return the columns that are used of rows with more columns; None for all of them."""
    if selected_cols is None:
        return None
    names = list(selected_cols)
    if shard_by is not None and shard_by not in names:
        names.append(shard_by)
    return names


def reader_of(rows: PCollection) -> str | None:
    """Return the name of the Beam reader that made a PCollection of Arrow tables; None for any other transform."""
    step = rows.producer
    while step is not None:
        name = type(step.transform).__name__
        if name in _ARROW_READERS:
            return name
        # An outer composite with other outputs is not the reader.
        step = step.parent if step.parent is not None and rows in step.parent.outputs.values() else None
    return None


def is_arrow(element_type: Any) -> bool:
    """Return True if the elements are Arrow record batches or tables, of many rows each."""
    return isinstance(element_type, type) and issubclass(element_type, ARROW)


def _is_serialized(element_type: Any) -> bool:
    name = getattr(getattr(element_type, "DESCRIPTOR", None), "full_name", None)
    return element_type in (bytes, ExampleChunk) or name in MESSAGES

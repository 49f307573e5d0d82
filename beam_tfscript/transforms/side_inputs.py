"""Side inputs of a script, while the pipeline is built: PCollections to chunks that each run is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsIter, PCollection

from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.chunk_rows import ChunkWindowedRows
from beam_tfscript.errors import ArgumentError, SchemaError
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.transforms.input_plan import plan_input, reader_of

_CHUNK = beam.typehints.Tuple[str, beam.typehints.Tuple[int, bytes]]


class SideInput(NamedTuple):
    """A side input whose columns are known.

    Attributes:
      name: its name in the script.
      rows: the PCollection.
      schema: its columns; None for Examples that are passed on unread.
      encoder: encoder of its elements.
    """

    name: str
    rows: PCollection
    schema: Schema | None
    encoder: RowEncoder


def check_side_inputs(side_inputs: Mapping[str, Any] | None, feed: str | None) -> dict[str, tuple[Any, Schema | None]]:
    """Return the side inputs, each as (PCollection, schema or None).

    Args:
      side_inputs: name -> PCollection, or (PCollection, schema) if its element type does not have the columns.
      feed: the transform's argument.

    Raises:
      ArgumentError: a side input cannot be used.
    """
    checked = {}
    for name, value in (side_inputs or {}).items():
        rows, schema = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
        if not isinstance(name, str) or not name.isidentifier():
            raise ArgumentError(f"side_inputs: names must be plain identifiers, got {name!r}.")
        if not isinstance(rows, PCollection):
            raise ArgumentError(
                f"side_inputs[{name!r}] must be a PCollection, or a pair of one and its schema, got "
                f"{type(rows).__name__}."
            )
        checked[name] = rows, Schema.parse(schema) if isinstance(schema, str) else schema
    if checked and feed == "bundles":
        raise ArgumentError(
            'side_inputs are not for feed="bundles", where a run goes on from window to window: use feed="dataset".'
        )
    return checked


def plan_side_inputs(side_inputs: Mapping[str, tuple[Any, Schema | None]], label: str) -> list[SideInput]:
    """Return the side inputs with their columns and encoders.

    Args:
      side_inputs: the return value of `check_side_inputs`.
      label: the transform's label, for errors.

    Raises:
      ArgumentError: the columns of a side input are not known, or cannot be used.
    """
    planned = []
    for name, (rows, given_schema) in side_inputs.items():
        try:
            schema, encoder = plan_input(rows.element_type, given_schema, reader=reader_of(rows))
        except (ArgumentError, SchemaError) as error:
            raise ArgumentError(f"{label}: side_inputs[{name!r}]: {error}") from error
        planned.append(SideInput(name, rows, schema, encoder))
    return planned


def chunk_side_inputs(side_inputs: Sequence[SideInput], options: ScriptOptions) -> AsIter | None:
    """Add the stages that make chunks of side inputs.

    Args:
      side_inputs: the side inputs.
      options: the options of the runs.

    Returns:
      The argument of the runs' stage, an iterable of (name, (count, TFRecord bytes)); None without side inputs.
    """
    if not side_inputs:
        return None
    chunks = []
    for name, rows, schema, encoder in side_inputs:
        # Each run is given the whole side input, as one file: so its rows are chunked as those of a single shard.
        own = dataclasses.replace(
            options,
            input_schema=schema,
            selected_cols=None,
            shard_by=None,
            num_workers=1,
            feed="dataset",
            cluster=None,
            shard_keys=(0,),
            spool_dir=None,
        )
        chunked = rows | f"Chunk {name}" >> beam.ParDo(ChunkWindowedRows(own, encoder, None))
        chunks.append(chunked | f"Name {name}" >> beam.Map(_add_name, name).with_output_types(_CHUNK))
    return AsIter(chunks[0] if len(chunks) == 1 else chunks | "SideInputs" >> beam.Flatten())


def _add_name(chunk: tuple[int, tuple[int, int, bytes, str]], name: str) -> tuple[str, tuple[int, bytes]]:
    _, (_, count, payload, _) = chunk
    return name, (count, payload)

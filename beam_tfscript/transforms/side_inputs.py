"""Side inputs of a script, while the pipeline is built: PCollections to chunks that every run is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, PCollection

from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.chunk_rows import ChunkWindowedRows
from beam_tfscript.errors import ArgumentError, SchemaError
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.transforms.input_plan import plan_input, reader_of

_CHUNK = beam.typehints.Tuple[str, beam.typehints.Tuple[int, bytes]]


def check_side_inputs(side_inputs: Mapping[str, Any] | None, feed: str | None) -> dict[str, tuple[Any, Schema | None]]:
    """The side inputs, each as (PCollection, schema or None).

    Args:
      side_inputs: name -> PCollection, or (PCollection, schema) where its elements do not tell their columns.
      feed: the transform's argument.

    Raises:
      ArgumentError: one of them cannot be used.
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


def plan_side_inputs(
    options: ScriptOptions, side_inputs: Mapping[str, tuple[Any, Schema | None]], label: str
) -> tuple[ScriptOptions, AsIter | None]:
    """Adds the stages that make chunks of side inputs.

    Args:
      options: the transform's arguments.
      side_inputs: what `check_side_inputs` returned.
      label: the transform's, for errors.

    Returns:
      The options with the side inputs' schemas, and what the run's DoFn is given; None where there is none.
    """
    if not side_inputs:
        return options, None
    chunks, schemas = [], {}
    for name, (rows, schema) in side_inputs.items():
        own = dataclasses.replace(
            options, input_schema=schema, selected_cols=None, shard_by=None, num_workers=1, feed="dataset", cluster=None
        )
        try:
            own, encoder = plan_input(rows.element_type, own, reader=reader_of(rows))
        except (ArgumentError, SchemaError) as error:
            raise ArgumentError(f"{label}: side_inputs[{name!r}]: {error}") from error
        chunked = rows | f"Chunk {name}" >> beam.ParDo(ChunkWindowedRows(own, encoder, None))
        chunks.append(chunked | f"Name {name}" >> beam.Map(_named, name).with_output_types(_CHUNK))
        schemas[name] = own.input_schema
    merged = chunks[0] if len(chunks) == 1 else chunks | "SideInputs" >> beam.Flatten()
    return dataclasses.replace(options, side_schemas=schemas), AsIter(merged)


def _named(chunk: tuple[int, tuple[int, bytes]], name: str) -> tuple[str, tuple[int, bytes]]:
    return name, chunk[1]

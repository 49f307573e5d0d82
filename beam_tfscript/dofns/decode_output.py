"""Outputs of a run: the Examples that the script wrote in; checked elements of the output PCollection out."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from beam_tfscript.data.batch_hints import batch_hint
from beam_tfscript.data.example_chunk import ExampleChunk
from beam_tfscript.data.examples import ExampleDecoder
from beam_tfscript.data.plain_arrow import plain_record_batches
from beam_tfscript.data.rows import record_batch_to_columns
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.beam_types import beam_rows, beam_timestamps, row_hint
from beam_tfscript.io import chunk_coder  # noqa: F401 - registers the coder of chunks


class OutputDecoder:
    """Decodes Examples to output elements of one schema and form.

    Args:
      schema: columns of the output.
      form: `row` (with a Beam schema), `dict`, `example` (serialized), `examples` (a chunk of them) or `record_batch`.
    """

    def __init__(self, schema: Schema, form: str):
        self._schema = schema
        self._form = form
        self._decoder = ExampleDecoder(schema)

    def decode(self, examples: list[bytes]) -> Iterable[Any]:
        """Check all Examples, and return their elements as an iterator that makes one at a time.

        Thousands of rows in memory at the same time would be thousands of objects for Python's garbage collector.

        Raises:
          OutputError: an Example does not fit the schema.
        """
        return self._elements(self._decoder.decode(examples), examples)

    def decode_good(self, examples: list[bytes]) -> tuple[Iterable[Any], list[tuple[bytes, Exception]]]:
        """Return the elements of the Examples that fit the schema, and the other Examples, each with its error."""
        batch, bad = self._decoder.decode_good(examples)
        if bad and self._form in ("example", "examples"):
            bad_indices = {error.index for _, error in bad}
            examples = [example for index, example in enumerate(examples) if index not in bad_indices]
        return self._elements(batch, examples), bad

    def _elements(self, batch: pa.RecordBatch, examples: list[bytes]) -> Iterable[Any]:
        if self._form == "example":
            return examples
        if self._form == "examples":
            return [ExampleChunk(examples)] if examples else []
        return elements_of(batch, self._schema, self._form)


def elements_of(batch: pa.RecordBatch, schema: Schema, form: str) -> Iterable[Any]:
    """Return the elements of a batch's rows.

    Args:
      batch: a batch of `schema.to_arrow()`.
      schema: columns of the batch.
      form: `row`, `dict` or `record_batch`.
    """
    if form == "row":
        return beam_rows(batch, schema)
    if form == "record_batch":
        return plain_record_batches(batch, schema)
    columns = record_batch_to_columns(batch, schema, timestamps=beam_timestamps)
    return (dict(zip(schema.names, values)) for values in zip(*columns))


def output_type(schema: Schema | None, form: str) -> Any:
    """Return the element type of the output PCollection."""
    if schema is None:
        return Any
    if form == "row":
        return row_hint(schema)
    if form == "record_batch":
        return batch_hint(schema)
    return {
        "dict": typing.Dict[str, typing.Any],  # noqa: UP006 - Beam knows typing's
        "example": bytes,
        "examples": ExampleChunk,
    }[form]

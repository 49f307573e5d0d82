"""What a run wrote, to the elements that go downstream: Examples in, checked rows (or another form) out."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from beam_tfscript.data.examples import ExampleDecoder
from beam_tfscript.data.plain_arrow import plain_record_batches
from beam_tfscript.data.rows import record_batch_to_columns
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.beam_types import beam_rows, beam_timestamps, row_hint


class OutputDecoder:
    """Makes the output elements of one schema and form.

    Args:
      schema: the output's columns.
      form: `row` (with a Beam schema), `dict`, `example` (serialized) or `record_batch`.
    """

    def __init__(self, schema: Schema, form: str):
        self._schema = schema
        self._form = form
        self._decoder = ExampleDecoder(schema)

    def make(self, examples: list[bytes]) -> Iterable[Any]:
        """The elements of some Examples: checked all at once, made one by one.

        Thousands of rows that are there at the same time are thousands of objects for Python's garbage collector.

        Raises:
          OutputError: an Example does not fit the schema.
        """
        return self._shape(self._decoder.decode(examples), examples)

    def make_good(self, examples: list[bytes]) -> tuple[Iterable[Any], list[tuple[bytes, Exception]]]:
        """The elements of those Examples that fit, and the others, each with what is wrong with it."""
        batch, bad = self._decoder.decode_good(examples)
        if bad and self._form == "example":
            wrong = {error.index for _, error in bad}
            examples = [example for index, example in enumerate(examples) if index not in wrong]
        return self._shape(batch, examples), bad

    def _shape(self, batch: pa.RecordBatch, examples: list[bytes]) -> Iterable[Any]:
        if self._form == "row":
            return beam_rows(batch, self._schema)
        if self._form == "example":
            return examples
        if self._form == "record_batch":
            return plain_record_batches(batch, self._schema)
        names = self._schema.names
        columns = record_batch_to_columns(batch, self._schema, timestamps=beam_timestamps)
        return (dict(zip(names, values)) for values in zip(*columns))


def output_type(schema: Schema | None, form: str) -> Any:
    """The element type of the output PCollection."""
    if schema is None:
        return Any
    if form == "row":
        return row_hint(schema)
    return {"dict": typing.Dict[str, typing.Any], "example": bytes, "record_batch": pa.RecordBatch}[form]  # noqa: UP006 - Beam knows typing's

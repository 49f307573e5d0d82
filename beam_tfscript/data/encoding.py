"""Input elements of any form to the Examples that the script is fed.

Input: a list of rows, of `tf.train.Example` messages or of their bytes; or one element that holds many rows: Arrow
data, or a chunk of Examples. Output: the serialized Examples, the errors of rows that do not fit, and the values by
which shards are chosen.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from beam_tfscript.data.align import align_record_batch
from beam_tfscript.data.example_chunk import ExampleChunk
from beam_tfscript.data.examples import ExampleDecoder, ExampleEncoder
from beam_tfscript.data.features import Rounding
from beam_tfscript.data.rows import rows_to_record_batch, split_rows
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import RowError

__all__ = ["ARROW", "BATCHES", "MESSAGES", "Encoded", "RowEncoder", "element_of_batch"]

# Types of elements that hold many rows each.
ARROW = (pa.RecordBatch, pa.Table)
BATCHES = (*ARROW, ExampleChunk)

# Messages that are passed on as their bytes; identified by name, because TensorFlow is never imported here.
MESSAGES = ("tensorflow.Example", "tensorflow.SequenceExample")


class Encoded(NamedTuple):
    """Examples and errors of a list of elements.

    Attributes:
      examples: the Examples of the rows that fit, in order; the chunk itself if it is passed on unread.
      errors: index and error of each row that does not fit.
      keys: values of the `shard_by` column of the rows that fit, or None.
      roundings: by name, the `double` columns whose values changed, since an Example holds 32-bit floats.
    """

    examples: list[bytes] | ExampleChunk
    errors: list[tuple[int, RowError]]
    keys: pa.Array | None
    roundings: dict[str, Rounding]


class RowEncoder:
    """Encodes input elements; can be pickled, so that it is made while the pipeline is built.

    Args:
      schema: the input's columns; None passes serialized Examples on without reading them.
      selected: the columns that the script is given; all of them by default.
      shard_by: the column whose values are returned as keys, or None.

    Attributes:
      key: identity of the encoder; its copies on all workers share it.
    """

    def __init__(self, schema: Schema | None, selected: Schema | None = None, *, shard_by: str | None = None):
        self._schema = schema
        self._selected = selected or schema
        self._shard_by = shard_by
        self.key = uuid.uuid4().hex
        self._make_coders()

    def encode(self, elements: Any, *, keep_going: bool) -> Encoded:
        """Encode elements.

        Args:
          elements: a list of rows, Example messages, or serialized Examples; or Arrow data, or a chunk of Examples.
          keep_going: True returns the errors of elements that do not fit; False raises the first one.

        Raises:
          RowError: the first element that does not fit, where `keep_going` is False.
        """
        if not len(elements):
            return Encoded([], [], None, {})
        if isinstance(elements, ExampleChunk):
            return self._encode_chunk(elements, keep_going)
        if isinstance(elements, ARROW):
            return self._encode_batch(elements, keep_going)
        serialized = _serialize_all(elements)
        if self._schema is None:
            return _pass_on(elements, serialized, keep_going)
        if serialized is None:
            return self._encode_rows(elements, keep_going)
        return self._encode_examples(serialized, keep_going)

    def _make_coders(self) -> None:
        if self._schema is None or self._selected is None:
            return
        self._encoder = ExampleEncoder(self._selected)
        self._decoder = ExampleDecoder.for_input(self._schema)
        # Of a row, only the columns that the script is given and the `shard_by` column are read.
        names = self._selected.names
        if self._shard_by is not None and self._shard_by not in names:
            names += (self._shard_by,)
        self._used = self._schema.select(names)

    def _encode_rows(self, rows: Sequence[Any], keep_going: bool) -> Encoded:
        if keep_going:
            batch, errors = split_rows(rows, self._used)
            return self._finish(batch, None, errors)
        return self._finish(rows_to_record_batch(rows, self._used), None, [])

    def _encode_batch(self, batch: pa.RecordBatch | pa.Table, keep_going: bool) -> Encoded:
        try:
            return self._finish(align_record_batch(batch, self._used), None, [])
        except RowError:
            if not keep_going:
                raise
        # The data is converted row by row only here, to find the rows that do not fit.
        return self._encode_rows(batch.select(list(self._used.names)).to_pylist(), keep_going)

    def _encode_chunk(self, chunk: ExampleChunk, keep_going: bool) -> Encoded:
        """Pass a chunk on unread where nothing has to be known of its rows: the script checks all that it parses."""
        is_read = keep_going or self._shard_by is not None or self._selected != self._schema
        if self._schema is None or not is_read:
            return Encoded(chunk, [], None, {})
        return self._encode_examples(chunk.records, keep_going)

    def _encode_examples(self, examples: list[bytes], keep_going: bool) -> Encoded:
        errors: dict[int, RowError] = {}
        if keep_going:
            batch, failed = self._decoder.decode_good(examples)
            errors = {error.index: error for _, error in failed}
            if errors:
                examples = [example for index, example in enumerate(examples) if index not in errors]
        else:
            batch = self._decoder.decode(examples)
        # Examples that keep all their columns are passed on unchanged.
        return self._finish(batch, examples if self._selected == self._schema else None, [*errors.items()])

    def _finish(
        self, batch: pa.RecordBatch, examples: list[bytes] | None, errors: list[tuple[int, RowError]]
    ) -> Encoded:
        roundings: dict[str, Rounding] = {}
        if examples is None:
            assert self._selected is not None
            examples = self._encoder.encode(batch.select(list(self._selected.names)))
            roundings = self._encoder.roundings
        keys = None if self._shard_by is None else batch.column(self._shard_by)
        return Encoded(examples, errors, keys, roundings)

    def __reduce__(self) -> tuple:
        return _rebuild, (self._schema, self._selected, self._shard_by, self.key)


def element_of_batch(batch: Any, index: int) -> Any:
    """Return one row of Arrow data, as Arrow data, or one Example of a chunk, as its bytes."""
    # A copy: a slice would be pickled with all rows of the batch.
    return batch.records[index] if isinstance(batch, ExampleChunk) else batch.take([index])


def _rebuild(schema: Schema | None, selected: Schema | None, shard_by: str | None, key: str) -> RowEncoder:
    encoder = RowEncoder(schema, selected, shard_by=shard_by)
    encoder.key = key
    return encoder


def _serialize_all(elements: Sequence[Any]) -> list[bytes] | None:
    """Return the elements' bytes where each is an Example, as a message or serialized; else None."""
    types = set(map(type, elements))
    if types == {bytes}:
        return list(elements)
    if all(map(_is_serialized, types)):
        return [element if type(element) is bytes else element.SerializeToString() for element in elements]
    return None


def _is_serialized(kind: type) -> bool:
    return kind is bytes or getattr(getattr(kind, "DESCRIPTOR", None), "full_name", None) in MESSAGES


def _pass_on(elements: Sequence[Any], serialized: list[bytes] | None, keep_going: bool) -> Encoded:
    if serialized is not None:
        return Encoded(serialized, [], None, {})
    examples, errors = [], []
    for index, element in enumerate(elements):
        if _is_serialized(type(element)):
            examples.append(element if type(element) is bytes else element.SerializeToString())
            continue
        error = RowError(
            f"Element #{index} is a {type(element).__name__}, where a serialized tf.train.Example is expected: "
            "give the transform input_schema=… for rows.",
            index=index,
        )
        if not keep_going:
            raise error
        errors.append((index, error))
    return Encoded(examples, errors, None, {})

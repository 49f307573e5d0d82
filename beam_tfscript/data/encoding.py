"""Input elements, whatever their form, to the Examples that the script is fed.

Comes in: a list of rows, of `tf.train.Example` messages or of their bytes. Goes out: the serialized Examples, the
elements that do not fit, and the values that shards are chosen by.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from beam_tfscript.data.align import align_record_batch
from beam_tfscript.data.examples import ExampleDecoder, ExampleEncoder
from beam_tfscript.data.features import Rounding
from beam_tfscript.data.rows import rows_to_record_batch, split_rows
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import RowError

__all__ = ["ARROW", "MESSAGES", "Encoded", "RowEncoder"]

# Elements that hold many rows each; a PCollection's type does not always tell.
ARROW = (pa.RecordBatch, pa.Table)

# Messages that are passed on as their bytes; known by name, as TensorFlow is never imported here.
MESSAGES = ("tensorflow.Example", "tensorflow.SequenceExample")


class Encoded(NamedTuple):
    """What became of a list of elements.

    Attributes:
      examples: the Examples of those that fit, in order.
      bad: index and error of each of the others.
      keys: values of the `shard_by` column of those that fit, or None.
      roundings: by name, the `double` columns whose values changed, since an Example holds 32-bit floats.
    """

    examples: list[bytes]
    bad: list[tuple[int, RowError]]
    keys: pa.Array | None
    roundings: dict[str, Rounding]


class RowEncoder:
    """Encodes input elements; pickles, so that it can be made while the pipeline is built.

    Args:
      schema: the input's columns; None passes serialized Examples on unread.
      selected: the columns that the script is given; all of them by default.
      shard_by: the column whose values are returned as keys, or None.

    Attributes:
      key: identity of the encoder, which its copies on all workers share.
    """

    def __init__(self, schema: Schema | None, selected: Schema | None = None, *, shard_by: str | None = None):
        self._schema = schema
        self._selected = selected or schema
        self._shard_by = shard_by
        self.key = uuid.uuid4().hex
        self._make_coders()

    def encode(self, elements: Any, *, keep_going: bool) -> Encoded:
        """Encodes elements.

        Args:
          elements: a list of rows, Example messages, or serialized Examples; or Arrow data.
          keep_going: returns those that do not fit instead of raising.

        Raises:
          RowError: the first element that does not fit, where `keep_going` is false.
        """
        if not len(elements):
            return Encoded([], [], None, {})
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
        # Of a row, only what the script is given and what shards are chosen by is looked at.
        names = self._selected.names
        if self._shard_by is not None and self._shard_by not in names:
            names += (self._shard_by,)
        self._used = self._schema.select(names)

    def _encode_rows(self, rows: Sequence[Any], keep_going: bool) -> Encoded:
        bad: list[tuple[int, RowError]] = []
        if keep_going:
            batch, bad = split_rows(rows, self._used)
        else:
            batch = rows_to_record_batch(rows, self._used)
        return self._finish(batch, None, bad)

    def _encode_batch(self, batch: pa.RecordBatch | pa.Table, keep_going: bool) -> Encoded:
        try:
            return self._finish(align_record_batch(batch, self._used), None, [])
        except RowError:
            if not keep_going:
                raise
        # Only here, to tell the bad rows from the good, are rows looked at one by one.
        return self._encode_rows(batch.select(list(self._used.names)).to_pylist(), keep_going)

    def _encode_examples(self, examples: list[bytes], keep_going: bool) -> Encoded:
        bad: list[tuple[int, RowError]] = []
        if keep_going:
            batch, errors = self._decoder.decode_good(examples)
            bad = [(error.index, error) for _, error in errors]
            if bad:
                wrong = {index for index, _ in bad}
                examples = [example for index, example in enumerate(examples) if index not in wrong]
        else:
            batch = self._decoder.decode(examples)
        # Examples that keep all their columns are passed on as they came.
        return self._finish(batch, examples if self._selected == self._schema else None, bad)

    def _finish(self, batch: pa.RecordBatch, examples: list[bytes] | None, bad: list[tuple[int, RowError]]) -> Encoded:
        roundings: dict[str, Rounding] = {}
        if examples is None:
            assert self._selected is not None
            examples = self._encoder.encode(batch.select(list(self._selected.names)))
            roundings = self._encoder.roundings
        keys = None if self._shard_by is None else batch.column(self._shard_by)
        return Encoded(examples, bad, keys, roundings)

    def __reduce__(self) -> tuple:
        return _rebuild, (self._schema, self._selected, self._shard_by, self.key)


def _rebuild(schema: Schema | None, selected: Schema | None, shard_by: str | None, key: str) -> RowEncoder:
    encoder = RowEncoder(schema, selected, shard_by=shard_by)
    encoder.key = key
    return encoder


def _serialize_all(elements: Sequence[Any]) -> list[bytes] | None:
    """The elements as bytes where each is an Example in one form or the other, else None."""
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
    examples, bad = [], []
    for index, element in enumerate(elements):
        if _is_serialized(type(element)):
            examples.append(element if type(element) is bytes else element.SerializeToString())
            continue
        error = RowError(
            f"Element #{index} is a {type(element).__name__}, where serialized tf.train.Examples are due: "
            "give the transform input_schema=… for rows.",
            index=index,
        )
        if not keep_going:
            raise error
        bad.append((index, error))
    return Encoded(examples, bad, None, {})

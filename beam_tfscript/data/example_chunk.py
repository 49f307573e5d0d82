"""Chunk of serialized Examples: one element of a pipeline that stands for many rows.

A chunk comes from a file or a script in one of three forms: a list of records, the payload of a frame to or from the
script (`wire.pack_records`), or TFRecord frames. It is converted to another form only when that form is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from beam_tfscript.data import tfrecord
from beam_tfscript.runtime.transport import wire

__all__ = ["ExampleChunk", "frame_examples", "pack_examples", "size_of"]


class ExampleChunk:
    """Serialized `tf.train.Example`s that move through a pipeline as one element.

    `len(chunk)` is the number of Examples, and iteration gives the bytes of each. Two chunks are equal if they hold
    the same Examples in the same order. A chunk is never changed.

    Args:
      examples: the serialized Examples, or other records of bytes.
    """

    __slots__ = ("_count", "_framed", "_packed", "_records")

    def __init__(self, examples: Sequence[bytes] = ()):
        self._records: list[bytes] | None = list(examples)
        self._count = len(self._records)
        self._packed: bytes | None = None
        self._framed: bytes | None = None

    @classmethod
    def from_packed(cls, count: int, payload: bytes) -> ExampleChunk:
        """Return the chunk of a frame's payload: the lengths of `count` records, then their bytes."""
        chunk = cls()
        chunk._records, chunk._count, chunk._packed = None, count, payload
        return chunk

    @classmethod
    def from_framed(cls, count: int, frames: bytes, records: list[bytes] | None = None) -> ExampleChunk:
        """Return the chunk of `count` TFRecord frames, whose checksums were checked; `records` if they are known."""
        chunk = cls()
        chunk._records, chunk._count, chunk._framed = records, count, frames
        return chunk

    @property
    def records(self) -> list[bytes]:
        """The serialized Examples."""
        if self._records is None:
            if self._packed is not None:
                self._records = wire.unpack_records(self._count, self._packed)
            else:
                self._records = tfrecord.split(self._framed or b"")
        return self._records

    @property
    def packed(self) -> bytes:
        """The payload of a frame with these Examples."""
        return wire.pack_records(self.records) if self._packed is None else self._packed

    @property
    def framed(self) -> bytes:
        """The Examples as TFRecord frames."""
        return tfrecord.frame(self.records) if self._framed is None else self._framed

    @property
    def size_bytes(self) -> int:
        """Size of all Examples in bytes."""
        if self._packed is not None:
            return len(self._packed) - 4 * self._count
        if self._framed is not None:
            return len(self._framed) - tfrecord.FRAME_OVERHEAD_BYTES * self._count
        return sum(map(len, self.records))

    @property
    def num_rows(self) -> int:
        """Number of Examples, by the name that Arrow's batches have for it."""
        return self._count

    def slice(self, start: int, length: int) -> ExampleChunk:
        """Return a chunk of up to `length` Examples from number `start` on."""
        if not start and length >= self._count:
            return self
        return ExampleChunk(self.records[start : start + length])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.records)

    def __eq__(self, other: object) -> bool:
        return self.records == other.records if isinstance(other, ExampleChunk) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.records))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._framed is not None:
            return ExampleChunk.from_framed, (self._count, self._framed)
        return ExampleChunk.from_packed, (self._count, self.packed)

    def __repr__(self) -> str:
        return f"<ExampleChunk of {self._count} Examples, {self.size_bytes} bytes>"


def pack_examples(examples: Sequence[bytes] | ExampleChunk) -> bytes:
    """Return the payload of a frame with these Examples."""
    return examples.packed if isinstance(examples, ExampleChunk) else wire.pack_records(examples)


def frame_examples(examples: Sequence[bytes] | ExampleChunk) -> bytes:
    """Return the Examples as TFRecord frames."""
    return examples.framed if isinstance(examples, ExampleChunk) else tfrecord.frame(examples)


def size_of(examples: Sequence[bytes] | ExampleChunk) -> int:
    """Return the size of all Examples in bytes."""
    return examples.size_bytes if isinstance(examples, ExampleChunk) else sum(map(len, examples))

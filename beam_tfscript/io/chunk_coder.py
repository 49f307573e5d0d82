"""Beam's coder of chunks of Examples: the number of records, and the payload of a frame."""

from __future__ import annotations

from typing import Any

from apache_beam.coders import Coder, registry

from beam_tfscript.data.example_chunk import ExampleChunk

_COUNT_BYTES = 4


class ExampleChunkCoder(Coder):
    """Codes an `ExampleChunk` without a Python object per record."""

    def encode(self, value: ExampleChunk) -> bytes:
        """Return the bytes of a chunk."""
        return len(value).to_bytes(_COUNT_BYTES, "little") + value.packed

    def decode(self, encoded: bytes) -> ExampleChunk:
        """Return the chunk of its bytes."""
        count = int.from_bytes(encoded[:_COUNT_BYTES], "little")
        return ExampleChunk.from_packed(count, encoded[_COUNT_BYTES:])

    def estimate_size(self, value: ExampleChunk) -> int:
        """Return the size of an encoded chunk, without encoding it."""
        return _COUNT_BYTES * (1 + len(value)) + value.size_bytes

    def is_deterministic(self) -> bool:
        """Return True: equal chunks have equal bytes."""
        return True

    def to_type_hint(self) -> Any:
        """Return the class of chunks."""
        return ExampleChunk

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


registry.register_coder(ExampleChunk, ExampleChunkCoder)

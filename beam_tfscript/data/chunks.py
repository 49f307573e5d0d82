"""Chunks of rows by shard: many small elements become few large ones before the shuffle.

A chunk is `(count, bytes)`. In the `dataset` feed the bytes are TFRecords: the file of a run is its chunks, one after
the other. In the `stream` feed the bytes are the payload of a frame to the script (`wire.pack_records`).
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from beam_tfscript.data.example_chunk import ExampleChunk, frame_examples, size_of

# Small enough that the chunks of several shards and windows fit in memory together. Large enough that the shuffle's
# cost per element does not matter beside its cost per byte.
CHUNK_TARGET_BYTES = 1 << 20
# An `ExampleChunk` of this size is not taken apart: the shuffle's cost per element is still small beside its bytes.
_WHOLE_BYTES = 1 << 18
# Limit of all gathered rows that are not yet given to the shuffle; reached only with many shards or windows.
BUFFER_MAX_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of one shard and window, ready for the shuffle."""

    window: Hashable
    shard: int
    count: int
    payload: bytes


class Chunker:
    """Gathers Examples by window and shard, and gives out chunks as they fill.

    Args:
      num_shards: number of shards.
      first_shard: first shard of the round robin. Bundles may be tiny, so it should differ between them.
      pack: function from Examples, as a list or as an `ExampleChunk`, to one block of bytes.
    """

    def __init__(self, num_shards: int, first_shard: int, pack: Callable[[Any], bytes] = frame_examples):
        self._pack = pack
        self._num_shards = num_shards
        self._next_shard = first_shard % num_shards
        self._pending: dict[tuple[Hashable, int], list[bytes]] = {}
        self._sizes: dict[tuple[Hashable, int], int] = {}

    def add(
        self,
        examples: list[bytes] | ExampleChunk,
        *,
        window: Hashable = None,
        shards: Sequence[int] | None = None,
    ) -> Iterator[Chunk]:
        """Add Examples of one window.

        Args:
          examples: serialized Examples.
          window: their window.
          shards: the shard of each, or None to deal them out in turn.

        Yields:
          The chunks that are full.
        """
        if isinstance(examples, ExampleChunk):
            if self._num_shards == 1 and size_of(examples) >= _WHOLE_BYTES:
                yield Chunk(window, 0, len(examples), self._pack(examples))
                return
            examples = examples.records
        for shard, part in self._deal(examples) if shards is None else _group(examples, shards):
            key = (window, shard)
            self._pending.setdefault(key, []).extend(part)
            self._sizes[key] = self._sizes.get(key, 0) + sum(map(len, part))
            if self._sizes[key] >= CHUNK_TARGET_BYTES:
                yield self._take(key)
        if sum(self._sizes.values()) >= BUFFER_MAX_BYTES:
            yield from self.flush()

    def flush(self) -> Iterator[Chunk]:
        """Yield the chunks of all gathered Examples."""
        for key in list(self._pending):
            yield self._take(key)

    def _deal(self, examples: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
        first = self._next_shard
        self._next_shard = (first + len(examples)) % self._num_shards
        for offset in range(min(self._num_shards, len(examples))):
            yield (first + offset) % self._num_shards, examples[offset :: self._num_shards]

    def _take(self, key: tuple[Hashable, int]) -> Chunk:
        window, shard = key
        examples = self._pending.pop(key)
        del self._sizes[key]
        return Chunk(window, shard, len(examples), self._pack(examples))


def shards_of(column: pa.Array, num_shards: int) -> list[int]:
    """Return the shard of each value: the same value has the same shard in every process and on every machine.

    Args:
      column: the values of the `shard_by` column; null is a value like any other.
      num_shards: number of shards.
    """
    encoded = pa.array(column).dictionary_encode()
    # Only the distinct values are hashed one by one; hash() differs between processes.
    by_code = [_stable_hash(value) % num_shards for value in encoded.dictionary.to_pylist()]
    null_shard = _stable_hash(None) % num_shards
    return [null_shard if code is None else by_code[code] for code in encoded.indices.to_pylist()]


def _stable_hash(value: Any) -> int:
    return zlib.crc32(repr(value).encode("utf-8"))


def _group(examples: list[bytes], shards: Sequence[int]) -> Iterator[tuple[int, list[bytes]]]:
    groups: dict[int, list[bytes]] = {}
    for example, shard in zip(examples, shards):
        groups.setdefault(shard, []).append(example)
    yield from groups.items()

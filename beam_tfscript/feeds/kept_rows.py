"""Rows of the `stream` feed that are kept until no run needs them any more: in the runner's state, or in a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from beam_tfscript.feeds.spool import OutputSpool
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.runtime.transport import wire

# Below this it is not worth looking which of the kept rows are done.
_COMPACT_BYTES = 4 << 20
_COMPACT_CHUNKS = 256
# Of a limit that is reached, this share stays: at the limit, each new chunk would go through all of them again.
_KEEP_SHARE = 0.75


class Chunk(NamedTuple):
    """Rows of one shard.

    Attributes:
      shard: whose they are.
      start: position of the first of them in the shard's rows of the window.
      num_rows: how many.
      arrived_ms: when they came, in milliseconds since 1970.
      payload: the rows, packed as `wire.pack_records` does.
    """

    shard: int
    start: int
    num_rows: int
    arrived_ms: int
    payload: bytes

    @property
    def end(self) -> int:
        """Position behind the last row."""
        return self.start + self.num_rows

    def without_first(self, n: int) -> Chunk:
        """The same without the first `n` rows."""
        if not n:
            return self
        records = wire.unpack_records(self.num_rows, self.payload)[n:]
        return self._replace(start=self.start + n, num_rows=len(records), payload=wire.pack_records(records))


def arrive(state: StreamState, shard: int, count: int, payload: bytes) -> Chunk:
    """The chunk of rows that have just come, with its position."""
    position = state.position(shard)
    chunk = Chunk(shard, position.arrived, count, int(time.time() * 1000), payload)
    position.arrived += count
    return chunk


class KeptRows(Protocol):
    """Where rows are kept."""

    def add(self, chunk: Chunk) -> None:
        """Keep rows that have come."""

    def read(self) -> Iterator[Chunk]:
        """All rows that are kept, of each shard in order."""

    def expire(self, age_s: float) -> None:
        """Give up rows that a run has had for longer, and has not done."""

    def settle(self) -> None:
        """Forget what is done; called at the end of a bundle."""

    def clear(self) -> None:
        """Forget all."""


class StateRows:
    """Rows in a bag of the runner's state.

    With `replay` all rows of the window are kept. Without it, those that no run has acknowledged, up to some bytes.
    Rows that are acknowledged by the end of the bundle that brought them are never written.

    Args:
      bag: Beam's state of chunks, as tuples.
      state: of the same rows.
      replay: whether all are kept.
      limit_bytes: how many bytes of the rows that a run has are kept without `replay`; of more, the oldest are given
        up.
    """

    def __init__(self, bag: Any, state: StreamState, *, replay: bool, limit_bytes: int):
        self._bag = bag
        self._state = state
        self._replay = replay
        self._limit_bytes = limit_bytes
        self._new: list[Chunk] = []

    def add(self, chunk: Chunk) -> None:
        """Keep rows that have come."""
        if self._replay:
            self._write(chunk)
        else:
            self._new.append(chunk)

    def read(self) -> Iterator[Chunk]:
        """All rows that are kept, of each shard in order."""
        if self._state.kept_chunks:
            yield from map(Chunk._make, self._bag.read())
        yield from list(self._new)

    def expire(self, age_s: float) -> None:
        """Give up rows that a run has had for longer, and has not done."""
        oldest_ms = (time.time() - age_s) * 1000
        if self._state.began_ms < oldest_ms:
            for chunk in self.read():
                if chunk.arrived_ms < oldest_ms:
                    self._give_up(chunk)

    def settle(self) -> None:
        """Write new rows to the state, but for those that are done; forget those there that are."""
        if self._replay:
            return
        state = self._state
        new, self._new = self._new, []
        if all(position.done >= position.arrived for position in state.positions.values()):
            self.clear()
            return
        for chunk in new:
            if chunk.end > state.position(chunk.shard).done:
                self._write(chunk)
        too_large = max(state.compact_bytes, min(_COMPACT_BYTES, self._limit_bytes))
        if state.kept_bytes > too_large or state.kept_chunks > max(state.compact_chunks, _COMPACT_CHUNKS):
            self._compact()

    def clear(self) -> None:
        """Forget all."""
        self._new = []
        if self._state.kept_chunks:
            self._bag.clear()
        self._state.kept_chunks = self._state.kept_bytes = 0

    def _write(self, chunk: Chunk) -> None:
        self._bag.add(tuple(chunk))
        self._state.kept_chunks += 1
        self._state.kept_bytes += len(chunk.payload)

    def _give_up(self, chunk: Chunk) -> None:
        position = self._state.position(chunk.shard)
        position.floor = max(position.floor, chunk.end)

    def _compact(self) -> None:
        """Forget what is done, and the oldest of what is more than may be kept."""
        state = self._state
        live = [chunk for chunk in self.read() if chunk.end > state.position(chunk.shard).done]
        size = sum(len(chunk.payload) for chunk in live)
        first = 0
        # Rows that wait for a run are not on their way to one: of those none is given up.
        if size > self._limit_bytes and state.run is not None:
            live.sort(key=lambda chunk: chunk.arrived_ms)
            while size > _KEEP_SHARE * self._limit_bytes:
                self._give_up(live[first])
                size -= len(live[first].payload)
                first += 1
        self.clear()
        for chunk in live[first:]:
            self._write(chunk)
        # Each time twice as much: so the cost per chunk stays the same, however many there are.
        state.compact_bytes, state.compact_chunks = 2 * state.kept_bytes, 2 * state.kept_chunks
        if state.run is not None:
            state.compact_bytes = min(state.compact_bytes, self._limit_bytes)


class FileRows:
    """All rows of a group, in a file: a group may be larger than memory, and is iterated once.

    Args:
      path: the file, removed by its directory's owner.
    """

    def __init__(self, path: str):
        self._spool = OutputSpool(path)
        self._chunks: list[tuple[int, int, int]] = []

    def add(self, chunk: Chunk) -> None:
        """Keep rows that have come."""
        self._chunks.append((chunk.shard, chunk.start, chunk.arrived_ms))
        self._spool.extend([wire.Frame(wire.ROWS, chunk.num_rows, chunk.payload)])

    def read(self) -> Iterator[Chunk]:
        """All rows that are kept, of each shard in order."""
        if self._chunks:
            for (shard, start, arrived_ms), frame in zip(list(self._chunks), self._spool.frames()):
                yield Chunk(shard, start, frame.count, arrived_ms, frame.payload)

    def expire(self, age_s: float) -> None:
        """Nothing is given up: the file is there all the same."""

    def settle(self) -> None:
        """Nothing is forgotten: the file goes with the group."""

    def clear(self) -> None:
        """Nothing is forgotten."""

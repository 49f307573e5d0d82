"""Rows of the `stream` feed, kept in the runner's state or in a file until no run needs them any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from beam_tfscript.feeds.spool import OutputSpool
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.runtime.transport import wire

# Reading all kept rows, to find those that are done, is not worth its time below this.
_COMPACT_BYTES = 4 << 20
_COMPACT_CHUNKS = 256
# Share of a limit that stays when the limit is reached: with all of it, each new chunk would read all rows again.
_KEEP_SHARE = 0.75


class Chunk(NamedTuple):
    """Rows of one shard.

    Attributes:
      shard: number of the shard, from 0.
      start: position of the first row among the shard's rows of the window.
      num_rows: number of rows.
      arrived_ms: when they came, in milliseconds since 1970.
      payload: the rows, packed by `wire.pack_records`.
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
        """Return the same chunk without the first `n` rows."""
        if not n:
            return self
        records = wire.unpack_records(self.num_rows, self.payload)[n:]
        return self._replace(start=self.start + n, num_rows=len(records), payload=wire.pack_records(records))


def arrive(state: StreamState, shard: int, count: int, payload: bytes) -> Chunk:
    """Return the chunk of rows that have just come, and advance the shard's position."""
    position = state.position(shard)
    chunk = Chunk(shard, position.arrived, count, int(time.time() * 1000), payload)
    position.arrived += count
    return chunk


class KeptRows(Protocol):
    """Store of rows that another run may need."""

    def add(self, chunk: Chunk) -> None:
        """Keep rows that have come."""

    def read(self) -> Iterator[Chunk]:
        """Yield all rows that are kept, of each shard in order."""

    def expire(self, age_s: float) -> None:
        """Give up rows that a run has had for longer than `age_s`, and has not done."""

    def settle(self) -> None:
        """Forget rows that are done; called at the end of a bundle."""

    def clear(self) -> None:
        """Forget all rows."""


class StateRows:
    """Rows in a bag of the runner's state.

    With `replay` all rows of the window are kept. Without it, rows that no run has acknowledged are kept, up to some
    bytes. Rows that are acknowledged by the end of the bundle that brought them are never written.

    Args:
      bag: Beam's state of chunks, as tuples.
      state: of the same rows.
      replay: True to keep all rows.
      limit_bytes: without `replay`, most bytes of a run's rows that are kept; of more, the oldest are given up.
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
        """Yield all rows that are kept, of each shard in order."""
        if self._state.kept_chunks:
            yield from map(Chunk._make, self._bag.read())
        yield from list(self._new)

    def expire(self, age_s: float) -> None:
        """Give up rows that a run has had for longer than `age_s`, and has not done."""
        oldest_ms = (time.time() - age_s) * 1000
        if self._state.began_ms < oldest_ms:
            for chunk in self.read():
                if chunk.arrived_ms < oldest_ms:
                    self._give_up(chunk)

    def settle(self) -> None:
        """Write new rows that are not done to the state; forget rows there that are done."""
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
        """Forget all rows."""
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
        """Forget rows that are done, and the oldest rows beyond the limit."""
        state = self._state
        live = [chunk for chunk in self.read() if chunk.end > state.position(chunk.shard).done]
        size = sum(len(chunk.payload) for chunk in live)
        first = 0
        # Rows that wait for a process are never given up: no run is there that could do them.
        if size > self._limit_bytes and state.run is not None:
            live.sort(key=lambda chunk: chunk.arrived_ms)
            while size > _KEEP_SHARE * self._limit_bytes:
                self._give_up(live[first])
                size -= len(live[first].payload)
                first += 1
        self.clear()
        for chunk in live[first:]:
            self._write(chunk)
        # Twice as much each time: the cost per chunk stays the same for any number of chunks.
        state.compact_bytes, state.compact_chunks = 2 * state.kept_bytes, 2 * state.kept_chunks
        if state.run is not None:
            state.compact_bytes = min(state.compact_bytes, self._limit_bytes)


class FileRows:
    """Rows of a group, in a file: a group may be larger than memory, and can be iterated once.

    Args:
      path: the file; the owner of its directory removes it.
    """

    def __init__(self, path: str):
        self._spool = OutputSpool(path)
        self._chunks: list[tuple[int, int, int]] = []

    def add(self, chunk: Chunk) -> None:
        """Keep rows that have come."""
        self._chunks.append((chunk.shard, chunk.start, chunk.arrived_ms))
        self._spool.extend([wire.Frame(wire.ROWS, chunk.num_rows, chunk.payload)])

    def read(self) -> Iterator[Chunk]:
        """Yield all rows that are kept, of each shard in order."""
        if self._chunks:
            for (shard, start, arrived_ms), frame in zip(list(self._chunks), self._spool.frames()):
                yield Chunk(shard, start, frame.count, arrived_ms, frame.payload)

    def expire(self, age_s: float) -> None:
        """Give nothing up: the file does not shrink."""

    def settle(self) -> None:
        """Forget nothing: the file is removed with the group."""

    def clear(self) -> None:
        """Forget nothing."""

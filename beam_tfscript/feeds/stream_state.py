"""State of one (shard, window) in the `stream` feed: kept in the runner's state between bundles."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any


@dataclasses.dataclass
class ShardPosition:
    """Positions in the rows of one shard and window: how many rows were before them.

    Attributes:
      arrived: behind the last row that has come.
      done: before the first row that no run has acknowledged, or that was given up.
      floor: of the rows that are kept, before the first. Rows between `done` and here are lost if the run dies.
      base: where the present run began.
    """

    arrived: int = 0
    done: int = 0
    floor: int = 0
    base: int = 0


@dataclasses.dataclass
class StreamState:
    """The state of one (shard, window); of a cluster, of all its shards.

    Attributes:
      nonce: made when the first row came, in the global window; else empty.
      run: identity of the run that goes on; None where rows wait for one.
      epoch: number of bundles that have advanced the run.
      began_ms: when it began, in milliseconds since 1970.
      attempt: of the run, from 1.
      failures: attempts that failed in a row, none of which got further than those before.
      first_error: what the first of them said.
      newest_micros: the newest timestamp of the rows, in microseconds.
      has_stopped: whether the script asked for the end of this feed.
      exports: models that were exported.
      first_export: of these, those before the present training of this window began.
      kept_chunks, kept_bytes: chunks that are kept, done or not.
      compact_bytes, compact_chunks: so many make it worth looking which are done.
      positions: by shard.
    """

    nonce: str = ""
    run: str | None = None
    epoch: int = 0
    began_ms: int = 0
    attempt: int = 1
    failures: int = 0
    first_error: str = ""
    newest_micros: int | None = None
    has_stopped: bool = False
    exports: int = 0
    first_export: int = 0
    kept_chunks: int = 0
    kept_bytes: int = 0
    compact_bytes: int = 0
    compact_chunks: int = 0
    positions: dict[int, ShardPosition] = dataclasses.field(default_factory=dict)

    @classmethod
    def decode(cls, state: bytes | None) -> StreamState:
        """The state that `encode` has made; a new one of None. What another version has added is ignored."""
        if not state:
            return cls()
        stored = json.loads(state)
        if "turn" in stored:  # the name in earlier versions, whose jobs may be updated to this one
            stored["epoch"] = stored.pop("turn")
        found = _known(cls, stored)
        positions = found.pop("positions", {})
        known = {int(shard): ShardPosition(**_known(ShardPosition, value)) for shard, value in positions.items()}
        return cls(**found, positions=known)

    def encode(self) -> bytes:
        """The state as bytes."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def position(self, shard: int) -> ShardPosition:
        """The positions of a shard."""
        return self.positions.setdefault(shard, ShardPosition())

    def begin_run(self, *, replay: bool) -> None:
        """Note where a new run begins: at the window's first row, or the first that is not done."""
        self.epoch = 0
        self.began_ms = int(time.time() * 1000)
        self.compact_bytes = self.compact_chunks = 0
        for position in self.positions.values():
            position.base = 0 if replay else position.done

    def end_run(self) -> None:
        """Forget the run: the next one is another attempt."""
        self.run = None
        self.attempt += 1

    def take_lost(self) -> int:
        """How many rows are neither done nor kept, which a run that is gone has lost; they count once."""
        lost = 0
        for position in self.positions.values():
            lost += max(0, position.floor - position.done)
            position.done = max(position.done, position.floor)
        return lost

    def note_acked(self, acked: dict[int, int]) -> None:
        """Note how many rows of each shard the run has done; where that is further than ever, forget failures."""
        for shard, count in acked.items():
            position = self.position(shard)
            if position.base + count > position.done:
                position.done = position.base + count
                self.failures, self.first_error = 0, ""


def _known(cls: Any, values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if name in names}

"""State of one (shard, window) in the `stream` feed: kept in the runner's state between bundles."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any


@dataclasses.dataclass
class ShardPosition:
    """Positions in the rows of one shard and window, each the number of rows before it.

    Attributes:
      arrived: behind the last row that has come.
      done: before the first row that no run has acknowledged, or that was given up.
      floor: before the first row that is kept. Rows between `done` and `floor` are lost if the run dies.
      base: before the first row of the present run.
    """

    arrived: int = 0
    done: int = 0
    floor: int = 0
    base: int = 0


@dataclasses.dataclass
class StreamState:
    """State of one (shard, window); of a cluster, of all its shards.

    Attributes:
      nonce: random name, made when the first row of the global window came; else empty.
      run: identity of the run that goes on; None if rows wait for one.
      epoch: number of bundles that have advanced the run.
      began_ms: when it began, in milliseconds since 1970.
      attempt: of the run, from 1.
      failures: attempts that failed in a row, without progress between them.
      first_error: the message of the first of them.
      newest_micros: the newest timestamp of the rows, in microseconds.
      has_stopped: True if the script asked for the end of this feed.
      exports: number of models that were exported.
      first_export: number of models before the first one of the window's present training.
      kept_chunks, kept_bytes: size of the kept rows, done or not.
      compact_bytes, compact_chunks: size of kept rows at which those that are done are looked for.
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
        """Return the state that `encode` made; a new one for None. Fields of other versions are ignored."""
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
        """Return the state as bytes."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def position(self, shard: int) -> ShardPosition:
        """Return the positions of a shard."""
        return self.positions.setdefault(shard, ShardPosition())

    def begin_run(self, *, replay: bool) -> None:
        """Note the positions at which a new run begins: the window's first rows, or the first that are not done."""
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
        """Return how many rows are neither done nor kept, after the end of their run; each row counts once."""
        lost = 0
        for position in self.positions.values():
            lost += max(0, position.floor - position.done)
            position.done = max(position.done, position.floor)
        return lost

    def note_acked(self, acked: dict[int, int]) -> None:
        """Note how many rows of each shard the run has done; any progress ends a series of failures."""
        for shard, count in acked.items():
            position = self.position(shard)
            if position.base + count > position.done:
                position.done = position.base + count
                self.failures, self.first_error = 0, ""


def _known(cls: Any, values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if name in names}

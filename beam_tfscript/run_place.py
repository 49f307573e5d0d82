"""Where a run of the `stream` feed stands, as its state remembers it between bundles."""

from __future__ import annotations

import dataclasses
import json


@dataclasses.dataclass
class RunPlace:
    """The place of one (shard, window).

    Attributes:
      run: identity of the run that goes on; None where the rows wait for one.
      turn: how many bundles have dealt with the run.
      attempt: of the run, from 1.
      failures: attempts that failed in a row, none of which got further than those before.
      furthest: with `replay`, how many rows were done by the attempt that has done the most.
      sent: rows sent to the run.
      acked: how many of them are done.
      newest_micros: the newest timestamp of the rows.
      has_stopped: whether the script asked for the end of this feed.
    """

    run: str | None = None
    turn: int = 0
    attempt: int = 1
    failures: int = 0
    furthest: int = 0
    sent: int = 0
    acked: int = 0
    newest_micros: int | None = None
    has_stopped: bool = False

    @classmethod
    def decode(cls, state: bytes | None) -> RunPlace:
        """The place that `encode` has made; a new one of None."""
        return cls(**json.loads(state)) if state else cls()

    def encode(self) -> bytes:
        """The place as bytes."""
        return json.dumps(dataclasses.asdict(self)).encode()

"""Places of one pool's runs in the machine's queue for accelerators."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from beam_tfscript.worker.device_leases import DeviceLeases, Turn
from beam_tfscript.worker.device_shares import Demand
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec

# A run that does not wait in its bundle keeps its place for so long, until its next attempt.
_KEPT_S = 5.0


class WaitingRun(NamedTuple):
    """A run of this pool that waits.

    Attributes:
      specs: of the processes that it needs.
      unused: True if they must not have had a run.
    """

    specs: Sequence[ProcessSpec]
    unused: bool

    def may_take(self, process: ScriptProcess) -> bool:
        """Return True if the process alone is all that the run needs."""
        return len(self.specs) == 1 and process.fits(self.specs[0]) and not (self.unused and process.runs)


class DeviceQueue:
    """The places of one pool's runs.

    Args:
      leases: the machine's, which hold its queue.
    """

    def __init__(self, leases: DeviceLeases):
        self._leases = leases
        self._lock = threading.Lock()
        self._runs: dict[str, WaitingRun] = {}
        # By transform: the place of a run that is not waiting now, and the time until which it is kept.
        self._kept: dict[str, tuple[Turn, float]] = {}

    def join(self, run: WaitingRun, demand: Demand) -> Turn | None:
        """Return a place at the queue's end; None if the queue is locked for long."""
        turn = self._leases.queue(demand)
        if turn is not None:
            self._runs[turn.name] = run
        return turn

    def leave(self, turn: Turn) -> None:
        """Give a place up."""
        self._runs.pop(turn.name, None)
        turn.close()

    def keep(self, key: str, turn: Turn) -> None:
        """Keep a place for the next attempt at a run of the transform, for some seconds.

        Args:
          key: the transform's.
          turn: the place. If another one is kept already, the later one of the two is given up.
        """
        with self._lock:
            other, _ = self._kept.get(key, (turn, 0.0))
            earlier, later = sorted([turn, other], key=lambda place: place.name)
            self._kept[key] = earlier, time.monotonic() + _KEPT_S
        if later is not earlier:
            self.leave(later)

    def resume(self, key: str) -> Turn | None:
        """Return the place that is kept for a transform; None if there is none."""
        with self._lock:
            return self._kept.pop(key, (None, 0.0))[0]

    def leave_old(self, *, all_kept: bool = False) -> None:
        """Give up the kept places that nothing has asked for; with `all_kept`, all of them."""
        now = time.monotonic()
        with self._lock:
            old = {key: turn for key, (turn, until) in self._kept.items() if all_kept or until <= now}
            for key in old:
                del self._kept[key]
        for turn in old.values():
            self.leave(turn)

    def may_take(self, name: str, process: ScriptProcess) -> bool:
        """Return True if a place is of a run of this pool to which the process may go.

        Args:
          name: of the place.
          process: about to be idle.
        """
        run = self._runs.get(name)
        return run is not None and run.may_take(process)

"""Accelerators of one pool: claims of runs, and the idle processes that end for runs which wait.

A process keeps its accelerators for as long as it lives, as CUDA reads `CUDA_VISIBLE_DEVICES` once. So an idle process
ends when a run waits for its accelerators, in this harness or in another one of the machine.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.worker.device_claim import DeviceClaim
from beam_tfscript.worker.device_leases import DeviceLease, DeviceLeases, Waiting
from beam_tfscript.worker.device_queue import DeviceQueue, WaitingRun
from beam_tfscript.worker.device_shares import Use, add_use, place
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec

_LOGGER = logging.getLogger(__name__)

# An idle process ends for a run that waits after this time. Between two bundles it is idle for less. If it ended with
# each bundle, each would begin with the start of a process and the loading of a model, which take 5 to 20 s.
YIELD_IDLE_S = 0.5
# A process that has had its accelerators for this time ends after its run. Else the bundles of one harness, if they
# follow each other closely, would keep another harness from ever getting an accelerator.
YIELD_HELD_S = 30.0


class PoolDevices:
    """Accelerators of one pool."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: DeviceQueue | None = None
        self._leases: DeviceLeases | None = None
        self._heard_at: dict[ScriptProcess, float] = {}

    def claim(self, specs: Sequence[ProcessSpec], *, unused: bool) -> DeviceClaim | None:
        """Return a claim for a run's processes; None if they need no accelerators.

        Args:
          specs: of the processes.
          unused: True if they must not have had a run.

        Raises:
          ScriptEnvironmentError: as `DeviceClaim`; or leases cannot be kept on this machine.
        """
        if not any(spec.accelerators for spec in specs):
            return None
        with self._lock:
            if self._leases is None or self._queue is None:
                self._leases = DeviceLeases()
                self._queue = DeviceQueue(self._leases)
        return DeviceClaim(WaitingRun(specs, unused), self._leases, self._queue)

    def spare(self, spec: ProcessSpec) -> list[DeviceLease | None] | None:
        """Return the lease for a process that is started before a run needs it; None if it should not be started."""
        try:
            claim = self.claim([spec], unused=False)
            if claim is None:
                return [None]
            with contextlib.closing(claim):
                return claim.lease([spec])
        except ScriptEnvironmentError as error:
            # This worker may never run the script, but only those that have accelerators.
            _LOGGER.debug("no process is started early: %s", error)
            return None

    def surplus(self, idle_since: Mapping[ScriptProcess, float]) -> list[ScriptProcess]:
        """Return the idle processes that are to end for the first run of the machine that waits.

        Args:
          idle_since: idle process -> when it became idle.
        """
        now = time.monotonic()
        longest_first = sorted(idle_since, key=idle_since.__getitem__)
        able = [
            (process, process.devices)
            for process in longest_first
            if process.devices is not None
            and (now - idle_since[process] >= YIELD_IDLE_S or now - process.devices.began_at >= YIELD_HELD_S)
        ]
        blocked = self._first_blocked() if able else None
        if blocked is None:
            return []
        waiting, use = blocked
        chosen = []
        for process, devices in able:
            if not set(devices.ids).isdisjoint(waiting.demand.ids):
                chosen.append(process)
                add_use(use, devices.ids, -devices.share)
                if place(waiting.demand, use) is not None:
                    break
        return chosen

    def wanted(self, leased: Iterable[ScriptProcess]) -> tuple[str, ...]:
        """Return the ids of accelerators that a run of this machine waits for.

        Args:
          leased: the processes that the pool's runs have.
        """
        blocked = self._first_blocked() if any(process.devices is not None for process in leased) else None
        return () if blocked is None else blocked[0].demand.ids

    def is_due(self, process: ScriptProcess) -> bool:
        """Return True if a process is to end after its run, because another run has waited for its accelerators."""
        devices = process.devices
        if devices is None or time.monotonic() - devices.began_at < YIELD_HELD_S:
            return False
        blocked = self._first_blocked()
        if blocked is None or set(devices.ids).isdisjoint(blocked[0].demand.ids):
            return False
        assert self._queue is not None
        return not self._queue.may_take(blocked[0].name, process)

    def look_after(self, leased: Iterable[ScriptProcess]) -> None:
        """Show other harnesses the signs of life of this one's processes, and leave the queue where nothing waits.

        Args:
          leased: the processes that runs have.
        """
        heard_at = {}
        for process in leased:
            if process.devices is not None:
                heard_at[process] = process.channel.heard_at
                if self._heard_at.get(process) != heard_at[process]:
                    process.devices.note_heard(heard_at[process])
        self._heard_at = heard_at
        if self._queue is not None:
            self._queue.leave_old()

    def close(self) -> None:
        """Leave the queue."""
        if self._queue is not None:
            self._queue.leave_old(all_kept=True)

    def _first_blocked(self) -> tuple[Waiting, Use] | None:
        assert self._leases is not None
        try:
            return self._leases.first_blocked()
        except ScriptEnvironmentError as error:
            _LOGGER.warning("idle processes keep their accelerators: %s", error)
            return None

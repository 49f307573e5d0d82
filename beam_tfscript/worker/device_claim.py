"""One run's claim for accelerators: leased for all of its processes at once, or waited for in the machine's queue."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Sequence

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.worker import long_wait
from beam_tfscript.worker.accelerators import find_accelerators
from beam_tfscript.worker.device_leases import DeviceLease, DeviceLeases, Turn
from beam_tfscript.worker.device_queue import DeviceQueue, WaitingRun
from beam_tfscript.worker.device_shares import Demand, add_use, no_use, place
from beam_tfscript.worker.long_wait import Holder, LongWait
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec

_LOGGER = logging.getLogger(__name__)

# Interval of the attempts of a run that waits: processes of other harnesses end without a word to this one.
_POLL_S = 0.25
_ADVICE = "use larger machines, or let processes share an accelerator by a fraction as accelerators_per_process."


class DeviceClaim:
    """A claim for the accelerators of a run's processes; it must be closed.

    Args:
      run: the processes' specs; at least one of them needs accelerators.
      leases: the machine's.
      queue: the pool's places in the machine's queue.

    Raises:
      ScriptEnvironmentError: the machine has too few for all of the processes, or none is found.
    """

    def __init__(self, run: WaitingRun, leases: DeviceLeases, queue: DeviceQueue):
        found = find_accelerators()
        self._run = run
        self._name = run.specs[0].name
        self._demand = Demand(_shares(run.specs), found.ids)
        self._machine = f"this worker has {len(found.ids)}: {', '.join(found.ids)} (from {found.source})"
        if place(self._demand, no_use()) is None:
            raise ScriptEnvironmentError(
                f"{self._name} needs {self._needs}, and {self._machine}. Ask for fewer, or {_ADVICE}"
            )
        self._leases = leases
        self._queue = queue
        self._wait = LongWait()
        self._turn: Turn | None = queue.resume(run.specs[0].key)

    def lease(self, missing: Sequence[ProcessSpec]) -> list[DeviceLease | None] | None:
        """Lease accelerators for the processes that must be started: for all of them, or for none.

        Args:
          missing: the specs of these processes.

        Returns:
          A lease for each process, None for one that needs no accelerator. None if too few are free.
        """
        shares = _shares(missing)
        name = f"{self._name} of worker process {os.getpid()}"
        leases = self._leases.lease(self._demand._replace(shares=shares), name, self._turn) if shares else []
        if leases is None:
            return None
        rest = iter(leases)
        return [next(rest) if spec.accelerators else None for spec in missing]

    def wait(self, changed: threading.Condition, leased: Iterable[ScriptProcess]) -> None:
        """Wait in the queue until another attempt may succeed.

        Args:
          changed: the pool's, locked; notified when a process is given back.
          leased: the processes that the pool's runs have.

        Raises:
          ScriptEnvironmentError: the processes that have the accelerators will not give them back.
        """
        holding = {process.devices.name: process for process in leased if process.devices is not None}
        self._check_own_bundle(holding.values())
        self._join()
        if self._wait.is_look_due():
            self._look_into(holding)
        changed.wait(min(_POLL_S, self._wait.until_look_s))

    def put_off(self) -> None:
        """Keep the place in the queue for the next claim of the same transform, for some seconds."""
        self._join()
        if self._turn is not None:
            self._queue.keep(self._run.specs[0].key, self._turn)
            self._turn = None

    def close(self) -> None:
        """Leave the queue."""
        if self._turn is not None:
            self._queue.leave(self._turn)
            self._turn = None

    @property
    def _needs(self) -> str:
        share = f"accelerators_per_process={self._demand.shares[0]:g}"
        count = len(self._demand.shares)
        return share if count == 1 else f"{share} for each of {count} tasks at the same time"

    def _join(self) -> None:
        if self._turn is None:
            self._turn = self._queue.join(self._run, self._demand)

    def _check_own_bundle(self, holding: Iterable[ScriptProcess]) -> None:
        """Refuse to wait for processes that this very bundle has, and gives back after this run."""
        use = no_use()
        own = [process for process in holding if process.bundle_thread == threading.get_ident()]
        for process in own:
            assert process.devices is not None
            add_use(use, process.devices.ids, process.devices.share)
        if place(self._demand, use) is None:
            raise ScriptEnvironmentError(
                f"{self._name} needs {self._needs}, and {self._machine}. The same bundle has them already, for "
                f"{'; '.join(process.label for process in own)}, which ends after this run: neither would ever end. "
                f"Put beam.Reshuffle() between the two transforms, {_ADVICE}"
            )

    def _look_into(self, holding: dict[str, ScriptProcess]) -> None:
        """Log the processes that have the accelerators, or give the wait up."""
        holders = self._leases.holders(self._demand.ids)
        for name, process in holding.items():
            if name in holders:
                holders[name] = Holder(f"{process.label} (pid {process.pid})", process.channel.heard_at)
        shown = "; ".join(holder.description for holder in holders.values()) or "none"
        silent_s = self._wait.silent_s(holders.values())
        waited = f"{self._name}: a run has waited {self._wait.so_far_s:.0f} s for {self._needs}; {self._machine}"
        if silent_s < long_wait.LIMIT_S:
            _LOGGER.info("%s; they are at: %s", waited, shown)
            return
        raise ScriptEnvironmentError(
            f"{waited}. The processes that have them showed no sign of life for {silent_s:.0f} s: {shown}. Check if "
            f"their bundles hang downstream of the script, {_ADVICE}"
        )


def _shares(specs: Iterable[ProcessSpec]) -> tuple[float, ...]:
    return tuple(spec.accelerators for spec in specs if spec.accelerators)

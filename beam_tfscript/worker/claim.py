"""Claim of one run for its processes: idle ones, and accelerators for those that must be started."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import NamedTuple

from beam_tfscript.worker.device_claim import DeviceClaim
from beam_tfscript.worker.device_leases import DeviceLease
from beam_tfscript.worker.idle import IdleProcesses
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec


class Found(NamedTuple):
    """A process for a run, or all that is needed to start one.

    Attributes:
      spec: of the process.
      process: an idle process; None if it must be started.
      devices: the accelerators that are leased for a new process; None if it needs none.
    """

    spec: ProcessSpec
    process: ScriptProcess | None
    devices: DeviceLease | None


class Claim:
    """Claim for all processes of a run; a context manager.

    Args:
      specs: of the processes.
      devices: the claim for their accelerators, closed with this one; None if they need none.
      unused: True if the processes must not have had a run.
    """

    def __init__(self, specs: Sequence[ProcessSpec], devices: DeviceClaim | None, *, unused: bool):
        self._specs = specs
        self._devices = devices
        self._unused = unused
        self._dead: list[ScriptProcess] = []

    def find(
        self,
        idle: IdleProcesses,
        leased: Collection[ScriptProcess],
        changed: threading.Condition,
        *,
        wait: bool,
    ) -> list[Found] | None:
        """Take idle processes out, and lease accelerators for the others: for all of the run, or for none.

        Args:
          idle: the pool's idle processes.
          leased: the processes that the pool's runs have; changes with them.
          changed: the pool's, locked; notified when a process is given back.
          wait: True to wait in order while too few accelerators are free; else None is returned.

        Raises:
          ScriptEnvironmentError: the processes that have the accelerators will not give them back.
        """
        while True:
            processes, dead = idle.find(self._specs, unused=self._unused)
            self._dead += dead
            missing = [spec for spec, process in zip(self._specs, processes) if process is None]
            leases = [None] * len(missing) if self._devices is None else self._devices.lease(missing)
            if leases is not None:
                rest = iter(leases)
                for process in filter(None, processes):
                    idle.remove(process)
                return [
                    Found(spec, process, next(rest) if process is None else None)
                    for spec, process in zip(self._specs, processes)
                ]
            assert self._devices is not None
            if not wait:
                self._devices.put_off()
                return None
            self._devices.wait(changed, leased)

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the queue for accelerators; clean up after dead processes that were found among the idle ones."""
        for process in self._dead:
            process.kill()
        if self._devices is not None:
            self._devices.close()

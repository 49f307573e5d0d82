"""Idle processes: the best one for a run, and those to be ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec
from beam_tfscript.worker.users import Users


class IdleProcesses:
    """Idle processes, interchangeable where their interpreters are the same.

    Every method is called with the pool's lock held.

    Args:
      users: the transforms that may use one.
    """

    def __init__(self, users: Users):
        self._users = users
        self._since: dict[ScriptProcess, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def add(self, process: ScriptProcess) -> None:
        """Add a process that has just become idle."""
        self._since[process] = time.monotonic()

    def has(self, spec: ProcessSpec) -> bool:
        """Return True if there is a process for runs of this spec."""
        return any(process.fits(spec) for process in self._since)

    def find(
        self, specs: Sequence[ProcessSpec], *, unused: bool
    ) -> tuple[list[ScriptProcess | None], list[ScriptProcess]]:
        """Return a process for each run of these specs: one with its transform's kept run, else the last used one.

        Args:
          specs: of the processes.
          unused: True if the processes must have had no run.

        Returns:
          (for each spec a process, which stays here until it is removed, or None if there is none; dead processes,
          which are removed).
        """
        found: list[ScriptProcess | None] = []
        dead: list[ScriptProcess] = []
        for spec in specs:
            fitting = [
                process
                for process in self._since
                if process.fits(spec) and process not in found and not (unused and process.runs)
            ]
            best = None
            for process in sorted(fitting, key=lambda process: (process.kept_run is None, -self._since[process])):
                # A process that ended before it was ready is not just dead: its run has to raise the reason.
                if process.returncode is None or process.ready is None:
                    best = process
                    break
                self.remove(process)
                dead.append(process)
            found.append(best)
        return found, dead

    def remove(self, process: ScriptProcess) -> None:
        """Remove a process."""
        del self._since[process]

    @property
    def since(self) -> Mapping[ScriptProcess, float]:
        """The processes, each with the time when it became idle, on this machine's monotonic clock."""
        return self._since

    def take_ended(self, *, idle_s: float, unused_s: float) -> list[ScriptProcess]:
        """Remove those that have been idle for long.

        Args:
          idle_s: seconds that a process is kept if its spec does not say.
          unused_s: seconds that a process is kept if no transform may use it.
        """
        now = time.monotonic()
        ended = [process for process in self._since if self._until(process, idle_s, unused_s) <= now]
        for process in ended:
            del self._since[process]
        return ended

    def take_all(self) -> list[ScriptProcess]:
        """Remove all."""
        processes = list(self._since)
        self._since.clear()
        return processes

    def _until(self, process: ScriptProcess, idle_s: float, unused_s: float) -> float:
        since = self._since[process]
        unused_since = self._users.unused_since(process)
        if unused_since is not None:
            return max(since, unused_since) + unused_s
        return since + (process.spec.idle_timeout_s or idle_s)

"""A process while one run has it, from the time it is ready to the time the run is over."""

from __future__ import annotations

from beam_tfscript.worker.process import ScriptProcess


class Lease:
    """A process while one run has it.

    Attributes:
      process: the process, ready for a run.
      wait_s: seconds spent waiting for a free place and for the process to be ready.
      is_fresh: whether no run had the process before.
    """

    def __init__(self, process: ScriptProcess, wait_s: float):
        self.process = process
        self.wait_s = wait_s
        self.is_fresh = process.runs == 0
        self.reusable = False

    def keep(self) -> None:
        """Says that the run ended well, so that the process may serve another; without it, it is killed."""
        self.reusable = True

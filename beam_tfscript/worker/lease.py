"""Lease of a process to one run, from the time it is ready to the end of the run."""

from __future__ import annotations

from beam_tfscript.worker.process import ScriptProcess


class Lease:
    """Lease of a process to one run.

    Attributes:
      process: the process, ready for a run.
      wait_s: seconds of waiting for a slot and for the process to be ready.
      is_fresh: True if no run had the process before.
      reusable: True if the process may serve another run.
    """

    def __init__(self, process: ScriptProcess, wait_s: float):
        self.process = process
        self.wait_s = wait_s
        self.is_fresh = process.runs == 0
        self.reusable = False

    def keep(self) -> None:
        """Note that the run ended well: the process may serve another run, and is not killed."""
        self.reusable = True

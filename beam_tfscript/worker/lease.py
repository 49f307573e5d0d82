"""Lease of a process to one run, until the end of the run."""

from __future__ import annotations

from beam_tfscript.worker.process import ScriptProcess


class Lease:
    """Lease of a process to one run.

    Attributes:
      process: the process.
      wait_s: seconds of waiting for a slot, for accelerators, and for the process to be ready.
      is_fresh: True if no run had the process before.
      reusable: True if the process may serve another run.
      ended_by: after the lease, the limit for which the process was ended, `max_runs` or `max_rss_bytes`; else None.
    """

    def __init__(self, process: ScriptProcess):
        self.process = process
        self.wait_s = 0.0
        self.is_fresh = process.runs == 0
        self.reusable = False
        self.ended_by: str | None = None

    def keep(self) -> None:
        """Note that the run ended well: the process may serve another run, and is not killed."""
        self.reusable = True

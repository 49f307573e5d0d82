"""Interface of a run that stays in its process from lease to lease: how the process ends the run in order."""

from __future__ import annotations

from typing import Protocol


class KeptRun(Protocol):
    """Run that goes on in its process while nothing leases the process."""

    def end_feed(self) -> None:
        """Tell the script that no more rows come."""

    def close(self) -> None:
        """Wait for the end of `main`."""

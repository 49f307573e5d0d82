"""Interface of runs that stay in their process from lease to lease: what the process must know of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class KeptRun(Protocol):
    """Run that stays in its process from lease to lease.

    Attributes:
      on_end: called when the process has ended, before its files are removed.
    """

    on_end: Callable[[], None]

    def end_feed(self) -> None:
        """Tell the script that no more rows come."""

    def close(self) -> None:
        """Wait for the end of `main`."""

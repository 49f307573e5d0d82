"""A wait of any length for what other runs hold: logged now and then, and given up if the holders are lost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

# Interval of log lines of a run that waits: a wait must not look like a hang.
NOTICE_S = 60.0
# A wait is as long as the runs before it, which may compute for days. But each of them sends a frame now and then, if
# only its stack after each `feed_timeout`. If none of them has sent a frame or ended for this time, they never will:
# their bundle was never finished, or their owner was lost.
LIMIT_S = 3600.0


class Holder(NamedTuple):
    """Holder of a process, or of an accelerator.

    Attributes:
      description: the run, and its process, in words.
      heard_at: when the process sent its last frame, on this machine's monotonic clock.
    """

    description: str
    heard_at: float


class LongWait:
    """One run's wait, from the time when it is made."""

    def __init__(self) -> None:
        self._began_at = self._looked_at = time.monotonic()

    @property
    def so_far_s(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._began_at

    @property
    def until_look_s(self) -> float:
        """Seconds until the holders are to be looked at."""
        return max(0.0, self._looked_at + min(NOTICE_S, LIMIT_S) - time.monotonic())

    def is_look_due(self) -> bool:
        """Return True if it is time to look at the holders; the next look is due after the same interval."""
        if self.until_look_s:
            return False
        self._looked_at = time.monotonic()
        return True

    def silent_s(self, holders: Iterable[Holder], changed_at: float = 0.0) -> float:
        """Return how long there was no sign of life, in seconds.

        Args:
          holders: of what is waited for.
          changed_at: when one of them last gave something back.
        """
        return time.monotonic() - max([self._began_at, changed_at, *(holder.heard_at for holder in holders)])

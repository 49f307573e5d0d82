"""Limit of a transform's processes, and the queue of runs that wait for one."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from beam_tfscript.errors import ScriptEnvironmentError

_LOGGER = logging.getLogger(__name__)

# Interval of log lines of a run that waits for a process: a wait must not look like a hang.
_WAIT_NOTICE_S = 60.0
# A wait is as long as the runs before it, which may compute for days. But each of them sends a frame now and then, if
# only its stack after each `feed_timeout`. If none of them has sent a frame or given its process back for this time,
# they never will: their bundle was never finished, or their owner was lost.
WAIT_LIMIT_S = 3600.0


class Holder(NamedTuple):
    """Holder of a process.

    Attributes:
      description: the run, and its process, in words.
      heard_at: when the process sent its last frame, on this machine's monotonic clock.
    """

    description: str
    heard_at: float


class ProcessSlots:
    """Slots for processes, by transform; a slot is taken before its process is started, first come, first served.

    Args:
      changed: notified whenever a process is given back.
      holders: returns the holders of a key's processes; called with `changed` locked.
    """

    def __init__(self, changed: threading.Condition, holders: Callable[[str], Iterable[Holder]]):
        self._changed = changed
        self._holders = holders
        self._taken: collections.Counter[str] = collections.Counter()
        self._queues: dict[str, collections.deque[object]] = collections.defaultdict(collections.deque)
        self._given_at: dict[str, float] = collections.defaultdict(time.monotonic)

    @property
    def any_taken(self) -> bool:
        """True if a slot is taken for which there is no process yet."""
        return any(self._taken.values())

    def take(self, key: str, name: str, *, limit: int, n: int = 1) -> None:
        """Take slots, and wait in order while there are too few.

        Args:
          key: the transform's.
          name: the script's, for the log.
          limit: how many processes of the key there may be.
          n: number of slots, taken all at once; at most `limit`.

        Raises:
          ScriptEnvironmentError: the holders of the processes have sent nothing for an hour.
        """
        assert n <= limit
        ticket = object()
        with self._changed:
            queue = self._queues[key]
            queue.append(ticket)
            began_at = looked_at = time.monotonic()
            try:
                while queue[0] is not ticket or self._count(key) + n > limit:
                    look_at = looked_at + min(_WAIT_NOTICE_S, WAIT_LIMIT_S)
                    self._changed.wait(max(0.0, look_at - time.monotonic()))
                    if time.monotonic() >= look_at:
                        looked_at = time.monotonic()
                        self._look_into_wait(key, name, limit, began_at)
                self._taken[key] += n
            finally:
                queue.remove(ticket)
                self._changed.notify_all()

    def try_take(self, key: str, *, limit: int, n: int = 1) -> bool:
        """Take slots if so many are free and no run waits for them; return True if they are taken."""
        with self._changed:
            if self._queues[key] or self._count(key) + n > limit:
                return False
            self._taken[key] += n
            return True

    def give(self, key: str, n: int = 1) -> None:
        """Give slots back: their processes exist and count as held, or could not be started."""
        with self._changed:
            self._taken[key] -= n
            self._given_at[key] = time.monotonic()
            self._changed.notify_all()

    def note_return(self, key: str) -> None:
        """Note that a process was given back; called with `changed` locked."""
        self._given_at[key] = time.monotonic()
        self._changed.notify_all()

    def _look_into_wait(self, key: str, name: str, limit: int, began_at: float) -> None:
        """Log the holders of the processes, or give the wait up."""
        now = time.monotonic()
        holders = list(self._holders(key))
        shown = [holder.description for holder in holders]
        shown += ["a process that is being started"] * self._taken[key]
        heard_at = max([began_at, self._given_at[key], *(holder.heard_at for holder in holders)])
        if now - heard_at < WAIT_LIMIT_S:
            _LOGGER.info(
                "%s: waited %.0f s for one of %d processes (max_processes), which %d runs wait for; they are at: %s",
                name, now - began_at, limit, len(self._queues[key]), "; ".join(shown),
            )  # fmt: skip
            return
        raise ScriptEnvironmentError(
            f"{name}: a run has waited {now - began_at:.0f} s for one of {limit} processes (max_processes). The runs "
            f"that have the processes showed no sign of life for {now - heard_at:.0f} s: {'; '.join(shown) or 'none'}. "
            "Check if their bundles hang downstream of the script, or give a larger max_processes."
        )

    def _count(self, key: str) -> int:
        return self._taken[key] + len(list(self._holders(key)))

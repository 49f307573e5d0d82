"""Limit of a transform's processes, and the queue of runs that wait for one."""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Iterable

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.worker import long_wait
from beam_tfscript.worker.long_wait import Holder, LongWait

_LOGGER = logging.getLogger(__name__)


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

    def take(self, key: str, name: str, *, limit: int, n: int = 1, wait: bool = True) -> bool:
        """Take slots, and wait in order while there are too few; return True if they are taken.

        Args:
          key: the transform's.
          name: the script's, for the log.
          limit: how many processes of the key there may be.
          n: number of slots, taken all at once; at most `limit`.
          wait: False to take them only if so many are free, and no run waits for them.

        Raises:
          ScriptEnvironmentError: the holders of the processes have sent nothing for an hour.
        """
        assert n <= limit
        ticket = object()
        with self._changed:
            queue = self._queues[key]
            if not wait and (queue or self._count(key) + n > limit):
                return False
            queue.append(ticket)
            waited = LongWait()
            try:
                while queue[0] is not ticket or self._count(key) + n > limit:
                    self._changed.wait(waited.until_look_s)
                    if waited.is_look_due():
                        self._look_into(waited, key, name, limit)
                self._taken[key] += n
                return True
            finally:
                queue.remove(ticket)
                self._changed.notify_all()

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

    def _look_into(self, waited: LongWait, key: str, name: str, limit: int) -> None:
        """Log the holders of the processes, or give the wait up."""
        holders = list(self._holders(key))
        shown = [holder.description for holder in holders]
        shown += ["a process that is being started"] * self._taken[key]
        silent_s = waited.silent_s(holders, self._given_at[key])
        if silent_s < long_wait.LIMIT_S:
            _LOGGER.info(
                "%s: waited %.0f s for one of %d processes (max_processes), which %d runs wait for; they are at: %s",
                name, waited.so_far_s, limit, len(self._queues[key]), "; ".join(shown),
            )  # fmt: skip
            return
        raise ScriptEnvironmentError(
            f"{name}: a run has waited {waited.so_far_s:.0f} s for one of {limit} processes (max_processes). The runs "
            f"that have the processes showed no sign of life for {silent_s:.0f} s: {'; '.join(shown) or 'none'}. "
            "Check if their bundles hang downstream of the script, or give a larger max_processes."
        )

    def _count(self, key: str) -> int:
        return self._taken[key] + len(list(self._holders(key)))

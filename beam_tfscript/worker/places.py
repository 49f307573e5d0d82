"""How many processes of a key there may be at a time, and who is next where there are too many."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)

# Whoever waits for a process says so in the log this often, so that a wait never looks like a hang.
_WAIT_NOTICE_S = 60.0


class Places:
    """Places that are taken before there is a process for them, first come, first served.

    Args:
      changed: notified whenever a process is given back.
      count_held: how many processes of a key are held; called with `changed` locked.
    """

    def __init__(self, changed: threading.Condition, count_held: Callable[[str], int]):
        self._changed = changed
        self._count_held = count_held
        self._taken: collections.Counter[str] = collections.Counter()
        self._queues: dict[str, collections.deque[object]] = collections.defaultdict(collections.deque)

    @property
    def any_taken(self) -> bool:
        """Whether a place is taken for which there is no process yet."""
        return any(self._taken.values())

    def take(self, key: str, name: str, *, limit: int, n: int = 1) -> None:
        """Takes places, and waits in order while there are too few.

        The wait has no bound of its own: it is as long as the runs before it, each of which ends with
        its process or with its bundle. It is said in the log while it lasts.

        Args:
          key: of the processes.
          name: the script's, for the log.
          limit: how many processes of the key there may be.
          n: how many places, all at once.
        """
        ticket = object()
        with self._changed:
            queue = self._queues[key]
            queue.append(ticket)
            try:
                while queue[0] is not ticket or self._count(key) + n > limit:
                    if not self._changed.wait(_WAIT_NOTICE_S):
                        _LOGGER.info("%s: a run waits for one of %d processes; %d runs wait", name, limit, len(queue))
                self._taken[key] += n
            finally:
                queue.remove(ticket)
                self._changed.notify_all()

    def try_take(self, key: str, *, limit: int, n: int = 1) -> bool:
        """Takes places if there are so many and nobody waits for them; returns whether."""
        with self._changed:
            if self._queues[key] or self._count(key) + n > limit:
                return False
            self._taken[key] += n
            return True

    def give(self, key: str, n: int = 1) -> None:
        """Gives places back: the process is there, and counted as held, or it could not be started."""
        with self._changed:
            self._taken[key] -= n
            self._changed.notify_all()

    def _count(self, key: str) -> int:
        return self._taken[key] + self._count_held(key)

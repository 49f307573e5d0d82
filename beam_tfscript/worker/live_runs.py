"""The runs that a harness keeps between bundles, by their identity."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Hashable, Iterator
from typing import Any

from beam_tfscript.errors import ScriptEnvironmentError

# A run without news for so long may be lost: its transform has no DoFn instance in this harness any more (instances are
# torn down when idle for a minute while their pipeline goes on, and for good when it has ended; nobody says which), or
# the runner has moved its key to another harness.
STALE_AFTER_S = 600.0
# A run of a transform that is in use may just rest, and what its script keeps in memory would be lost with it. Where no
# other run wants its place, it is given up only after this time.
GIVE_UP_AFTER_S = 86400.0
# How long a bundle waits for another one that deals with the same rows, as some runners do.
_GUARD_LIMIT_S = 3600.0


class LiveRuns:
    """The live runs of one harness."""

    def __init__(self) -> None:
        # Taken again by a thread that has it, where the collector closes a generator in a guard.
        self._lock = threading.RLock()
        self._runs: dict[str, Any] = {}
        self._guards: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def guard(self, name: Hashable, *, wait: bool = True) -> Iterator[bool]:
        """Keep other bundles with the same name out: some runners deal with one key in two bundles at a time.

        Args:
          name: what is dealt with.
          wait: whether to wait while another bundle deals with it.

        Yields:
          Whether nobody else deals with it; always True after a wait.

        Raises:
          ScriptEnvironmentError: another bundle has dealt with it for an hour.
        """
        with self._lock:
            lock, users = self._guards.get(name, (threading.Lock(), 0))
            self._guards[name] = lock, users + 1
        try:
            has_lock = lock.acquire(timeout=_GUARD_LIMIT_S) if wait else lock.acquire(blocking=False)
            if wait and not has_lock:
                raise ScriptEnvironmentError(
                    f"another bundle of this worker has dealt with {name} for {_GUARD_LIMIT_S:g} s: see where it hangs."
                )
            try:
                yield has_lock
            finally:
                if has_lock:
                    lock.release()
        finally:
            with self._lock:
                lock, users = self._guards.pop(name)
                if users > 1:
                    self._guards[name] = lock, users - 1

    def add(self, identity: str, run: Any) -> None:
        """Keep a run."""
        with self._lock:
            self._runs[identity] = run

    def take_of(self, rows: Hashable) -> list[Any]:
        """Forget, and return, the runs of these rows: where another is to begin, no state speaks of them."""
        return self._take(lambda run: run.rows == rows)

    def find(self, identity: str) -> Any:
        """The run of that identity, if this harness has it; that is news of it."""
        with self._lock:
            run = self._runs.get(identity)
            if run is not None:
                run.used_at = time.monotonic()
            return run

    def remove(self, identity: str) -> None:
        """Forget a run."""
        with self._lock:
            self._runs.pop(identity, None)

    def take_stale(self, key: str) -> list[Any]:
        """Forget, and return, the runs of a transform that others may have the places of."""
        return self._take(lambda run: run.key == key and self._is_without_news(run, STALE_AFTER_S))

    def take_abandoned(self, used: set[str]) -> list[Any]:
        """Forget, and return, the runs that nobody will ask for any more.

        Args:
          used: keys of the transforms that have DoFn instances now.
        """
        return self._take(
            lambda run: self._is_without_news(run, GIVE_UP_AFTER_S if run.key in used else STALE_AFTER_S),
        )

    def clear(self) -> None:
        """Forget all runs."""
        with self._lock:
            self._runs.clear()

    def _is_without_news(self, run: Any, limit_s: float) -> bool:
        """Whether nothing was heard of it for so long; a bundle that deals with it right now may take longer."""
        return time.monotonic() - run.used_at >= limit_s and run.rows not in self._guards

    def _take(self, is_wanted: Any) -> list[Any]:
        with self._lock:
            taken = {identity: run for identity, run in self._runs.items() if is_wanted(run)}
            for identity in taken:
                del self._runs[identity]
        return list(taken.values())

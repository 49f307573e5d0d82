"""Live runs: those that a harness keeps between bundles, by their identity."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Hashable, Iterator
from typing import Any

from beam_tfscript.errors import ScriptEnvironmentError

# A run that no bundle has advanced for so long may be lost. The runner may have moved its key to another harness. Or
# its transform has no DoFn instance here any more. Those are torn down after a minute without work, and at the end of
# the pipeline, and no runner tells which.
STALE_AFTER_S = 600.0
# A run of a transform that is in use may just have no rows, and its script's memory would be lost with it. If no other
# run waits for its process, it is given up only after this time.
GIVE_UP_AFTER_S = 86400.0
# How long a bundle waits for another one that advances the same run. Some runners process one key in two bundles.
_GUARD_LIMIT_S = 3600.0


class LiveRuns:
    """Live runs of one harness."""

    def __init__(self) -> None:
        # Reentrant: the garbage collector may close a generator inside a guard, on a thread that holds the lock.
        self._lock = threading.RLock()
        self._runs: dict[str, Any] = {}
        self._guards: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def guard(self, name: Hashable, *, wait: bool = True) -> Iterator[bool]:
        """Keep other bundles with the same name out: some runners process one key in two bundles at a time.

        Args:
          name: the (stage, shard, window) that a bundle advances.
          wait: True to wait while another bundle has it.

        Yields:
          True if no other bundle has it, as always after a wait.

        Raises:
          ScriptEnvironmentError: another bundle has had it for an hour.
        """
        with self._lock:
            lock, users = self._guards.get(name, (threading.Lock(), 0))
            self._guards[name] = lock, users + 1
        try:
            has_lock = lock.acquire(timeout=_GUARD_LIMIT_S) if wait else lock.acquire(blocking=False)
            if wait and not has_lock:
                raise ScriptEnvironmentError(
                    f"another bundle of this worker has worked on {name} for {_GUARD_LIMIT_S:g} s: see where that "
                    "bundle hangs."
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
        """Forget, and return, the runs of these rows: another one begins, so no state names them any more."""
        return self._take(lambda run: run.rows == rows)

    def find(self, identity: str) -> Any:
        """Return the run of that identity, if this harness has it, and note that it is in use."""
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
        """Forget, and return, the runs of a transform whose processes may go to other runs."""
        return self._take(lambda run: run.key == key and self._is_unused(run, STALE_AFTER_S))

    def take_abandoned(self, used: set[str], wanted: Collection[str] = ()) -> list[Any]:
        """Forget, and return, the runs that no bundle will ask for any more.

        Args:
          used: keys of the transforms that have DoFn instances now.
          wanted: ids of accelerators that a run waits for.
        """

        def limit_s(run: Any) -> float:
            return GIVE_UP_AFTER_S if run.key in used and run.devices.isdisjoint(wanted) else STALE_AFTER_S

        return self._take(lambda run: self._is_unused(run, limit_s(run)))

    def clear(self) -> None:
        """Forget all runs."""
        with self._lock:
            self._runs.clear()

    def _is_unused(self, run: Any, limit_s: float) -> bool:
        """Return True if no bundle has used the run for so long; one that has it now may take longer."""
        return time.monotonic() - run.used_at >= limit_s and run.rows not in self._guards

    def _take(self, is_wanted: Any) -> list[Any]:
        with self._lock:
            taken = {identity: run for identity, run in self._runs.items() if is_wanted(run)}
            for identity in taken:
                del self._runs[identity]
        return list(taken.values())

"""The script processes of one SDK harness: started early, leased to runs, reused, and ended.

There is one pool a harness process, behind `get_pool()`. DoFn instances come and go with bundles and
own no process; they register as users of a key, and when the last user of a key goes, so do its idle processes.
A runner that fails may forget to tear its DoFns down: users are held weakly, and what nobody uses ends when it has
been idle for long.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.worker.alarm import Alarm
from beam_tfscript.worker.lease import Lease
from beam_tfscript.worker.live_run import LiveRuns
from beam_tfscript.worker.places import Places
from beam_tfscript.worker.process import ProcessSpec, ScriptProcess
from beam_tfscript.worker.scratch import ScratchDirectory

# An idle interpreter with TensorFlow in it holds some 400 MiB; starting it anew costs 4 to 5 s.
IDLE_TIMEOUT_S = 60.0
# Some runners tear their DoFns down between two bundles: what a transform without users holds is kept for so long.
LINGER_S = 2.0
_REAPER_TICK_S = 2.0

_pool: ProcessPool | None = None
_pool_lock = threading.Lock()


def get_pool() -> ProcessPool:
    """The pool of this SDK harness process; a forked child gets one of its own."""
    global _pool
    with _pool_lock:
        if _pool is None or _pool.owner_pid != os.getpid():
            _pool = ProcessPool()
            # An interpreter that ends in order leaves nothing behind; after a kill -9 the script
            # processes see to it.
            atexit.register(_pool.shutdown)
        return _pool


class ProcessPool:
    """Leases script processes, at most `max_processes` of a key at a time.

    Attributes:
      owner_pid: the process that the pool belongs to.
      live_runs: the runs that go on between bundles.
    """

    def __init__(self) -> None:
        self.owner_pid = os.getpid()
        self._changed = threading.Condition()
        self._idle: dict[str, list[tuple[ScriptProcess, float]]] = collections.defaultdict(list)
        # Held weakly: an owner that a failed bundle forgot takes its leases with it.
        self._leased: dict[ScriptProcess, weakref.ref[Any]] = {}
        self._places = Places(self._changed, lambda key: sum(process.spec.key == key for process in self._leased))
        self._stopped: set[str] = set()
        self._unused_since: dict[str, float] = {}
        self.live_runs = LiveRuns()
        self._users: dict[str, weakref.WeakSet[object]] = collections.defaultdict(weakref.WeakSet)
        self._scratch: ScratchDirectory | None = None
        self._reaper = Alarm(self._end_idle)

    def scratch(self) -> str:
        """The harness' scratch directory; it goes when the last user of the pool goes."""
        with self._changed:
            if self._scratch is None:
                self._scratch = ScratchDirectory()
                self._reaper.schedule(min(_REAPER_TICK_S, IDLE_TIMEOUT_S))
            return self._scratch.path

    def register(self, key: str, user: object) -> None:
        """Counts `user` (a DoFn instance) among those who may lease processes of `key`."""
        with self._changed:
            self._users[key].add(user)
            self._unused_since.pop(key, None)

    def unregister(self, key: str, user: object) -> None:
        """Ends what `user` still leases; with the last user of `key`, its idle processes end soon."""
        with self._changed:
            self._users[key].discard(user)
            ending = [process for process, owner in self._leased.items() if owner() in (user, None)]
            for process in ending:
                del self._leased[process]
            if not self._users[key]:
                del self._users[key]
                self._unused_since[key] = time.monotonic()
                if self._scratch is not None:
                    self._reaper.schedule(LINGER_S)
        for process in ending:
            process.kill()
        self._remove_scratch_if_unused()

    def stop(self, key: str) -> None:
        """Remembers that a script of `key` asked for the end of its feed."""
        with self._changed:
            self._stopped.add(key)

    def is_stopped(self, key: str) -> bool:
        """Whether a script of `key` has, in this harness."""
        return key in self._stopped

    def warm(self, spec: ProcessSpec) -> None:
        """Starts a process of this spec if there is none: a hint, so that its start overlaps with other work."""
        with self._changed:
            if self._idle[spec.key] or not self._places.try_take(spec.key, limit=1):
                return
        try:
            process = ScriptProcess.start(spec, self.scratch())
        finally:
            self._places.give(spec.key)
        self._put_back(process)

    @contextlib.contextmanager
    def lease(self, spec: ProcessSpec, *, max_processes: int, user: object) -> Iterator[Lease]:
        """Leases a process that is ready; kills it at the end unless `Lease.keep` was called.

        Args:
          spec, max_processes: as for `acquire`.
          user: who leases; `unregister(user)` ends its leases.

        Raises:
          ScriptEnvironmentError: a new process was not ready in time.
        """
        begin = time.monotonic()
        process = self.acquire(spec, max_processes=max_processes, owner=user)
        lease = None
        try:
            process.wait_ready()
            lease = Lease(process, time.monotonic() - begin)
            yield lease
        finally:
            self.release(process, keep=lease is not None and lease.reusable)

    def acquire(self, spec: ProcessSpec, *, max_processes: int, owner: object) -> ScriptProcess:
        """Takes a process, which may still be coming up; waits in order while there is no place for one.

        Args:
          spec: what process.
          max_processes: how many of the key may be taken at a time.
          owner: who takes it; when it is gone, so is the process.

        Raises:
          ScriptEnvironmentError: a new process cannot be started.
        """
        self._places.take(spec.key, spec.name, limit=max_processes)
        return self._take_idle_or_start(spec, owner)

    def acquire_all(
        self, spec: ProcessSpec, count: int, *, limit: int, owner: object, wait: bool = True
    ) -> list[ScriptProcess] | None:
        """Takes the processes of a whole cluster at once.

        Args:
          spec: what processes.
          count: how many.
          limit: how many of the key may be taken at a time.
          owner: who takes them.
          wait: whether to wait in order while there are too few places; else None is returned.

        Raises:
          ScriptEnvironmentError: one cannot be started; then none is taken.
        """
        if wait:
            self._places.take(spec.key, spec.name, limit=limit, n=count)
        elif not self._places.try_take(spec.key, limit=limit, n=count):
            return None
        taken: list[ScriptProcess] = []
        try:
            while len(taken) < count:
                taken.append(self._take_idle_or_start(spec, owner))
        except ScriptEnvironmentError:
            self._places.give(spec.key, count - len(taken) - 1)
            for process in taken:
                self.release(process, keep=False)
            raise
        return taken

    def try_acquire(self, spec: ProcessSpec, *, max_processes: int, owner: object) -> ScriptProcess | None:
        """As `acquire`, but None where there is no place."""
        if not self._places.try_take(spec.key, limit=max_processes):
            return None
        return self._take_idle_or_start(spec, owner)

    def release(self, process: ScriptProcess, *, keep: bool) -> None:
        """Gives a process back: to be used again, or else to be killed."""
        if keep and process.returncode is None:
            self._put_back(process)
            return
        process.kill()
        with self._changed:
            self._leased.pop(process, None)
            self._changed.notify_all()
        self._remove_scratch_if_unused()

    def shutdown(self) -> None:
        """Ends every process of this pool and removes its scratch directory."""
        if self.owner_pid != os.getpid():
            return  # a forked child: the processes are its parent's
        self.live_runs.clear()
        with self._changed:
            leased, idle = list(self._leased), [process for those in self._idle.values() for process, _ in those]
            self._leased.clear()
            self._idle.clear()
            self._users.clear()
        for process in leased:
            process.kill()
        _close_all(idle)
        self._remove_scratch_if_unused()

    def _take_idle_or_start(self, spec: ProcessSpec, owner: object) -> ScriptProcess:
        """Takes a process for a place that is counted already."""
        dead: list[ScriptProcess] = []
        try:
            with self._changed:
                idle = self._idle[spec.key]
                while idle:
                    process, _ = idle.pop()
                    # One that ended before it was ever ready says why, at `wait_ready`.
                    if process.returncode is None or process.ready is None:
                        self._leased[process] = weakref.ref(owner)
                        return process
                    dead.append(process)
            process = ScriptProcess.start(spec, self.scratch())
            with self._changed:
                self._leased[process] = weakref.ref(owner)
            return process
        finally:
            self._places.give(spec.key)
            for process in dead:
                process.kill()

    def _put_back(self, process: ScriptProcess) -> None:
        with self._changed:
            self._leased.pop(process, None)
            self._idle[process.spec.key].append((process, time.monotonic()))
            self._changed.notify_all()
            if not self._users.get(process.spec.key):
                self._reaper.schedule(LINGER_S)

    def _end_idle(self) -> None:
        """Ends what has been idle for long, and goes on as long as there is something; runs on the timer's thread."""
        with self._changed:
            now = time.monotonic()
            ending = []
            used = {key for key, users in self._users.items() if users}
            for key, idle in self._idle.items():
                unused_since = None if key in used else self._unused_since.get(key, 0.0)
                ending += [process for process, since in idle if _idle_until(process, since, unused_since) <= now]
                self._idle[key] = [entry for entry in idle if entry[0] not in ending]
            self._stopped &= used | {key for key, since in self._unused_since.items() if since + LINGER_S > now}
            orphans = [process for process, owner in self._leased.items() if owner() is None]
            for process in orphans:
                del self._leased[process]
            if self._scratch is not None:
                self._reaper.schedule(min(_REAPER_TICK_S, IDLE_TIMEOUT_S))
        _close_all(ending)
        for process in orphans:
            process.kill()
        for run in self.live_runs.take_abandoned(used):
            run.release(self)
        self._remove_scratch_if_unused()

    def _remove_scratch_if_unused(self) -> None:
        with self._changed:
            in_use = self._leased or self._places.any_taken or any(self._users.values()) or any(self._idle.values())
            if in_use or self._scratch is None:
                return
            scratch, self._scratch = self._scratch, None
        self._reaper.cancel()
        scratch.remove()


def _idle_until(process: ScriptProcess, since: float, unused_since: float | None) -> float:
    """When a process is to be ended that is idle since a time; `unused_since` is None where its transform has users."""
    if unused_since is not None:
        return max(since, unused_since) + LINGER_S
    return since + (process.spec.idle_timeout_s or IDLE_TIMEOUT_S)


def _close_all(processes: list[ScriptProcess]) -> None:
    for process in processes:
        process.ask_to_close()
    for process in processes:
        process.close()

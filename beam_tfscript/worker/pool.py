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
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from beam_tfscript.worker.alarm import Alarm
from beam_tfscript.worker.lease import Lease
from beam_tfscript.worker.live_run import LiveRuns
from beam_tfscript.worker.process import ProcessSpec, ScriptProcess
from beam_tfscript.worker.scratch import ScratchDirectory

_LOGGER = logging.getLogger(__name__)

# An idle interpreter with TensorFlow in it holds some 400 MiB; starting it anew costs 4 to 5 s.
IDLE_TIMEOUT_S = 60.0
# Some runners tear their DoFns down between two bundles: what a transform without users holds is kept for so long.
LINGER_S = 2.0
_REAPER_TICK_S = 2.0
# Whoever waits for a process says so in the log this often, so that a wait never looks like a hang.
_WAIT_NOTICE_S = 60.0

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
        self._stopped: set[str] = set()
        self._unused_since: dict[str, float] = {}
        self.live_runs = LiveRuns()
        self._starting: collections.Counter[str] = collections.Counter()
        self._users: dict[str, weakref.WeakSet[object]] = collections.defaultdict(weakref.WeakSet)
        self._queues: dict[str, collections.deque[object]] = collections.defaultdict(collections.deque)
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
            if self._count_leased(spec.key) + len(self._idle[spec.key]):
                return
            self._starting[spec.key] += 1
        try:
            process = ScriptProcess.start(spec, self.scratch())
        finally:
            with self._changed:
                self._starting[spec.key] -= 1
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
        self._wait_for_place(spec, max_processes)
        return self._take_idle_or_start(spec, owner)

    def try_acquire(self, spec: ProcessSpec, *, max_processes: int, owner: object) -> ScriptProcess | None:
        """As `acquire`, but None where there is no place."""
        with self._changed:
            if self._queues[spec.key] or self._count_leased(spec.key) >= max_processes:
                return None
            self._starting[spec.key] += 1
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
            with self._changed:
                self._starting[spec.key] -= 1
                self._changed.notify_all()
            for process in dead:
                process.kill()

    def _wait_for_place(self, spec: ProcessSpec, max_processes: int) -> None:
        """Takes a place among `max_processes`, first come, first served.

        The wait has no bound of its own: it is as long as the runs before it, each of which ends with
        its process or with its bundle. It is said in the log while it lasts.
        """
        ticket = object()
        with self._changed:
            queue = self._queues[spec.key]
            queue.append(ticket)
            try:
                while queue[0] is not ticket or self._count_leased(spec.key) >= max_processes:
                    if not self._changed.wait(_WAIT_NOTICE_S):
                        _LOGGER.info(
                            "%s: a run waits for one of %d processes; %d runs wait",
                            spec.name, max_processes, len(queue),
                        )  # fmt: skip
                self._starting[spec.key] += 1
            finally:
                queue.remove(ticket)
                self._changed.notify_all()

    def _count_leased(self, key: str) -> int:
        return self._starting[key] + sum(process.spec.key == key for process in self._leased)

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
            self.release(run.process, keep=False)
        self._remove_scratch_if_unused()

    def _remove_scratch_if_unused(self) -> None:
        with self._changed:
            in_use = self._leased or any(any(held.values()) for held in (self._users, self._idle, self._starting))
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

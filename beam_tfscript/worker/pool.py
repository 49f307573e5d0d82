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

from beam_tfscript.worker.process import ProcessSpec, ScriptProcess
from beam_tfscript.worker.scratch import ScratchDirectory

_LOGGER = logging.getLogger(__name__)

# An idle interpreter with TensorFlow in it holds some 400 MiB; starting it anew costs 4 to 5 s.
IDLE_TIMEOUT_S = 60.0
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


class Lease:
    """A process while one run has it.

    Attributes:
      process: the process, ready for a run.
      wait_s: seconds spent waiting for a free place and for the process to be ready.
      is_fresh: whether no run had the process before.
    """

    def __init__(self, process: ScriptProcess, wait_s: float):
        self.process = process
        self.wait_s = wait_s
        self.is_fresh = process.runs == 0
        self.reusable = False

    def keep(self) -> None:
        """Says that the run ended well, so that the process may serve another; without it, it is killed."""
        self.reusable = True


class ProcessPool:
    """Leases script processes, at most `max_processes` of a key at a time.

    Attributes:
      owner_pid: the process that the pool belongs to.
    """

    def __init__(self) -> None:
        self.owner_pid = os.getpid()
        self._changed = threading.Condition()
        self._idle: dict[str, list[tuple[ScriptProcess, float]]] = collections.defaultdict(list)
        self._leased: dict[ScriptProcess, object] = {}
        self._starting: collections.Counter[str] = collections.Counter()
        self._users: dict[str, weakref.WeakSet[object]] = collections.defaultdict(weakref.WeakSet)
        self._queues: dict[str, collections.deque[object]] = collections.defaultdict(collections.deque)
        self._scratch: ScratchDirectory | None = None
        self._reaper: threading.Timer | None = None

    def scratch(self) -> str:
        """The harness' scratch directory; it goes when the last user of the pool goes."""
        with self._changed:
            if self._scratch is None:
                self._scratch = ScratchDirectory()
                self._schedule_reaper()
            return self._scratch.path

    def register(self, key: str, user: object) -> None:
        """Counts `user` (a DoFn instance) among those who may lease processes of `key`."""
        with self._changed:
            self._users[key].add(user)

    def unregister(self, key: str, user: object) -> None:
        """Ends what `user` still leases, and with the last user of `key` its idle processes too."""
        with self._changed:
            self._users[key].discard(user)
            ending = [process for process, owner in self._leased.items() if owner is user]
            for process in ending:
                del self._leased[process]
            idle: list[ScriptProcess] = []
            if not self._users[key]:
                del self._users[key]
                idle = [process for process, _ in self._idle.pop(key, [])]
        for process in ending:
            process.kill()
        _close_all(idle)
        self._remove_scratch_if_unused()

    def warm(self, spec: ProcessSpec) -> None:
        """Starts a process of this spec if there is none: a hint, so that its start overlaps with other work."""
        with self._changed:
            if self._count(spec.key):
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
          spec: what process.
          max_processes: how many of the key may be leased at a time; further callers wait in order.
          user: who leases; `unregister(user)` ends its leases.

        Raises:
          ScriptEnvironmentError: a new process was not ready in time.
        """
        begin = time.monotonic()
        process = self._take_idle_or_start(spec, max_processes, user)
        lease = None
        try:
            process.wait_ready()
            lease = Lease(process, time.monotonic() - begin)
            yield lease
        finally:
            self._give_back(process, keep=lease is not None and lease.reusable)

    def shutdown(self) -> None:
        """Ends every process of this pool and removes its scratch directory."""
        if self.owner_pid != os.getpid():
            return  # a forked child: the processes are its parent's
        with self._changed:
            processes = list(self._leased) + [process for idle in self._idle.values() for process, _ in idle]
            self._leased.clear()
            self._idle.clear()
            self._users.clear()
        for process in processes:
            process.kill()
        self._remove_scratch_if_unused()

    def _take_idle_or_start(self, spec: ProcessSpec, max_processes: int, user: object) -> ScriptProcess:
        self._wait_for_place(spec, max_processes)
        dead: list[ScriptProcess] = []
        try:
            with self._changed:
                idle = self._idle[spec.key]
                while idle:
                    process, _ = idle.pop()
                    # One that ended before it was ever ready says why, at `wait_ready`.
                    if process.returncode is None or process.ready is None:
                        self._leased[process] = user
                        return process
                    dead.append(process)
            process = ScriptProcess.start(spec, self.scratch())
            with self._changed:
                self._leased[process] = user
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

    def _count(self, key: str) -> int:
        return self._count_leased(key) + len(self._idle[key])

    def _give_back(self, process: ScriptProcess, *, keep: bool) -> None:
        if keep and process.returncode is None:
            self._put_back(process)
            return
        process.kill()
        with self._changed:
            self._leased.pop(process, None)
            self._changed.notify_all()
        self._remove_scratch_if_unused()

    def _put_back(self, process: ScriptProcess) -> None:
        with self._changed:
            self._leased.pop(process, None)
            self._changed.notify_all()
            if self._users.get(process.spec.key):
                self._idle[process.spec.key].append((process, time.monotonic()))
                return
        process.close()
        self._remove_scratch_if_unused()

    def _schedule_reaper(self) -> None:
        if self._reaper is None:
            self._reaper = threading.Timer(IDLE_TIMEOUT_S, self._end_idle)
            self._reaper.name = "beam_tfscript-idle"
            self._reaper.daemon = True
            self._reaper.start()

    def _end_idle(self) -> None:
        """Ends what has been idle for long, and goes on as long as there is something; runs on the timer's thread."""
        oldest = time.monotonic() - IDLE_TIMEOUT_S
        with self._changed:
            self._reaper = None
            ending = [process for idle in self._idle.values() for process, since in idle if since <= oldest]
            for key, idle in self._idle.items():
                self._idle[key] = [entry for entry in idle if entry[0] not in ending]
            if self._scratch is not None:
                self._schedule_reaper()
        _close_all(ending)
        self._remove_scratch_if_unused()

    def _remove_scratch_if_unused(self) -> None:
        with self._changed:
            in_use = self._leased or any(any(held.values()) for held in (self._users, self._idle, self._starting))
            if in_use or self._scratch is None:
                return
            scratch, self._scratch = self._scratch, None
            reaper, self._reaper = self._reaper, None
        if reaper is not None and reaper is not threading.current_thread():
            reaper.cancel()
            reaper.join()
        scratch.remove()


def _close_all(processes: list[ScriptProcess]) -> None:
    for process in processes:
        process.close()

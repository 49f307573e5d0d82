"""Pool of the script processes of one SDK harness: started early, leased to runs, reused, and ended.

There is one pool per harness process, behind `get_pool()`. DoFn instances come and go with bundles and own no
process; they register as users of their transform's key. Idle processes are shared by all transforms that would start
the same interpreter. They end soon after the last user of these transforms is gone. A runner that fails may forget to
tear its DoFns down: users are held weakly, and one that is collected counts as torn down.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from beam_tfscript.worker.alarm import Alarm
from beam_tfscript.worker.idle import IdleProcesses
from beam_tfscript.worker.lease import Lease
from beam_tfscript.worker.live_runs import LiveRuns
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_slots import Holder, ProcessSlots
from beam_tfscript.worker.process_spec import ProcessSpec
from beam_tfscript.worker.scratch import ScratchDirectory
from beam_tfscript.worker.users import Users

IDLE_TIMEOUT_S = 60.0  # an idle interpreter with TensorFlow holds some 400 MiB; starting another costs 4 to 5 s
UNUSED_GRACE_S = 2.0  # some runners tear their DoFns down between two bundles
_REAPER_TICK_S = 2.0
_ENDING_S = 60.0  # time for the scripts of processes that end to save or export something

_pool: ProcessPool | None = None
_pool_lock = threading.Lock()


def get_pool() -> ProcessPool:
    """Return the pool of this SDK harness process; a forked child gets one of its own."""
    global _pool
    with _pool_lock:
        if _pool is None or _pool.owner_pid != os.getpid():
            _pool = ProcessPool()
            # An interpreter that ends in order ends its processes here; after a SIGKILL the guardian does.
            atexit.register(_pool.shutdown)
        return _pool


class ProcessPool:
    """Leases script processes, at most `max_processes` of a transform at a time.

    Attributes:
      owner_pid: the process that the pool belongs to.
      live_runs: the runs that go on between bundles.
    """

    def __init__(self) -> None:
        self.owner_pid = os.getpid()
        self.live_runs = LiveRuns()
        self._changed = threading.Condition()
        # Held weakly: if a failed bundle forgets an owner, the owner's leases end when it is collected.
        self._leased: dict[ScriptProcess, weakref.ref[Any]] = {}
        self._slots = ProcessSlots(self._changed, self._holders)
        self._stopped: set[str] = set()
        self._users = Users()
        self._idle = IdleProcesses(self._users)
        self._num_ending = 0  # processes that are neither leased nor idle, and have not ended yet
        self._scratch: ScratchDirectory | None = None
        self._reaper = Alarm(self._end_idle)

    def scratch(self) -> str:
        """Return the harness's scratch directory, which is removed after the last user of the pool."""
        return self._own_scratch().path

    def register(self, key: str, user: object) -> None:
        """Add `user`, a DoFn instance, to those that may lease processes of `key`."""
        with self._changed:
            self._users.add(key, user)

    def unregister(self, key: str, user: object) -> None:
        """End the processes that `user` still leases; after the last user of `key`, idle ones end soon."""
        with self._changed:
            ending = [process for process, owner in self._leased.items() if owner() in (user, None)]
            for process in ending:
                del self._leased[process]
                self._slots.note_return(process.spec.key)
            if self._users.discard(key, user) and self._scratch is not None:
                self._reaper.schedule(UNUSED_GRACE_S)
            self._num_ending += len(ending)
        self._end(kill=ending)

    def stop(self, key: str) -> None:
        """Note that a script of `key` asked for the end of its feed."""
        with self._changed:
            self._stopped.add(key)

    def is_stopped(self, key: str) -> bool:
        """Return True if a script of `key` asked for the end of its feed, in this harness."""
        return key in self._stopped

    def warm(self, spec: ProcessSpec) -> None:
        """Start a process of this spec if none is idle, so that its start overlaps with other work."""
        with self._changed:
            self._users.note_interpreter(spec)
            # The slot keeps DoFn instances that are set up at the same time from starting a process each.
            if self._idle.has(spec) or not self._slots.try_take(spec.key, limit=1):
                return
        try:
            process = self._start(spec)
        finally:
            self._slots.give(spec.key)
        self._put_back(process)

    @contextlib.contextmanager
    def lease(self, spec: ProcessSpec, *, max_processes: int, user: object) -> Iterator[Lease]:
        """Lease a process that is ready; kill it at the end unless `Lease.keep` was called.

        Args:
          spec, max_processes: as for `acquire`.
          user: the DoFn instance that leases; `unregister(user)` ends its leases.

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
        """Take a process, which may still be coming up; wait in order while all slots are taken.

        Args:
          spec: of the process.
          max_processes: how many of the key may be taken at a time.
          owner: takes the process, which ends when the owner is collected.

        Raises:
          ScriptEnvironmentError: a new process cannot be started, or the holders of the others are lost.
        """
        self._slots.take(spec.key, spec.name, limit=max_processes)
        return self._take_idle_or_start(spec, owner)

    def acquire_all(
        self, spec: ProcessSpec, count: int, *, limit: int, owner: object, unused: bool, wait: bool = True
    ) -> list[ScriptProcess] | None:
        """Take the processes of a whole run at once.

        Args:
          spec: of the processes.
          count: number of processes.
          limit: how many of the key may be taken at a time.
          owner: takes the processes, which end when the owner is collected.
          unused: True if they must not have had a run: some of TensorFlow's settings, such as collective operations,
            can only be made in a new interpreter.
          wait: True to wait in order while there are too few slots; else None is returned.

        Raises:
          ScriptEnvironmentError: as `acquire`; then none is taken.
        """
        if wait:
            self._slots.take(spec.key, spec.name, limit=limit, n=count)
        elif not self._slots.try_take(spec.key, limit=limit, n=count):
            return None
        taken: list[ScriptProcess] = []
        for rest in range(count - 1, -1, -1):
            try:
                taken.append(self._take_idle_or_start(spec, owner, unused=unused))
            except BaseException:
                # Also on an interrupt: a slot that is never given back is missing for good.
                self._slots.give(spec.key, rest)
                for process in taken:
                    self.release(process, keep=False)
                raise
        return taken

    def release(self, process: ScriptProcess, *, keep: bool) -> None:
        """Give a process back: to be used again if `keep`, else to be killed."""
        if keep and process.returncode is None:
            self._put_back(process)
            return
        # Before its slot is free: else there would be a process too many for a moment.
        process.kill()
        with self._changed:
            if self._leased.pop(process, None) is not None:
                self._slots.note_return(process.spec.key)
        self._remove_scratch_if_unused()

    def shutdown(self) -> None:
        """End every process of this pool and remove its scratch directory."""
        if self.owner_pid != os.getpid():
            return  # a forked child: the processes are its parent's
        self.live_runs.clear()
        with self._changed:
            leased, idle = list(self._leased), self._idle.take_all()
            self._leased.clear()
            self._users.clear()
            self._num_ending += len(leased) + len(idle)
        self._end(kill=leased, close=idle)
        with self._changed:  # another thread may be ending processes, whose scripts still log
            self._changed.wait_for(lambda: not self._num_ending, _ENDING_S)

    def _own_scratch(self) -> ScratchDirectory:
        with self._changed:
            if self._scratch is None:
                self._scratch = ScratchDirectory()
                self._reaper.schedule(min(_REAPER_TICK_S, IDLE_TIMEOUT_S))
            return self._scratch

    def _holders(self, key: str) -> list[Holder]:
        return [
            Holder(f"{process.label} (pid {process.pid})", process.channel.heard_at)
            for process in self._leased
            if process.spec.key == key
        ]

    def _take_idle_or_start(self, spec: ProcessSpec, owner: object, *, unused: bool = False) -> ScriptProcess:
        """Take a process for a slot that is taken already."""
        dead: list[ScriptProcess] = []
        try:
            with self._changed:
                self._users.note_interpreter(spec)
                process, dead = self._idle.take(spec, unused=unused)
                if process is not None:
                    process.spec = spec  # another transform may have started it
                    self._leased[process] = weakref.ref(owner)
                    return process
            process = self._start(spec)
            with self._changed:
                self._leased[process] = weakref.ref(owner)
            return process
        finally:
            for process in dead:
                process.kill()
            self._slots.give(spec.key)

    def _start(self, spec: ProcessSpec) -> ScriptProcess:
        scratch = self._own_scratch()
        return ScriptProcess.start(spec, scratch.path, scratch.guardian)

    def _put_back(self, process: ScriptProcess) -> None:
        with self._changed:
            self._leased.pop(process, None)
            self._idle.add(process)
            self._slots.note_return(process.spec.key)
            if self._users.unused_since(process) is not None:
                self._reaper.schedule(UNUSED_GRACE_S)

    def _end_idle(self) -> None:
        """End processes that have been idle for long; runs on the alarm's thread, and schedules its next call."""
        with self._changed:
            now = time.monotonic()
            ending = self._idle.take_ended(idle_s=IDLE_TIMEOUT_S, unused_s=UNUSED_GRACE_S)
            used = self._users.keys()
            self._users.forget_left(before=now - UNUSED_GRACE_S)
            just_left = {key for key in self._stopped if self._users.left_since(key) + UNUSED_GRACE_S > now}
            self._stopped &= used | just_left
            orphans = [process for process, owner in self._leased.items() if owner() is None]
            for process in orphans:
                del self._leased[process]
                self._slots.note_return(process.spec.key)
            if self._scratch is not None:
                self._reaper.schedule(min(_REAPER_TICK_S, IDLE_TIMEOUT_S))
            self._num_ending += len(ending) + len(orphans)
        self._end(kill=orphans, close=ending)
        for run in self.live_runs.take_abandoned(used):
            run.release(self)

    def _end(self, *, kill: Sequence[ScriptProcess], close: Sequence[ScriptProcess] = ()) -> None:
        """End processes that were counted as ending; their files and their guardian stay until they have ended."""
        try:
            with contextlib.ExitStack() as stack:  # an error at one does not keep the others from being ended
                for process in close:
                    stack.callback(process.close)
                for process in kill:
                    stack.callback(process.kill)
                # All are asked before any is waited for: their exit handlers run at the same time.
                for process in close:
                    process.ask_to_close()
        finally:
            with self._changed:
                self._num_ending -= len(kill) + len(close)
                self._changed.notify_all()
            self._remove_scratch_if_unused()

    def _remove_scratch_if_unused(self) -> None:
        with self._changed:
            in_use = self._leased or self._slots.any_taken or self._users.keys() or self._idle
            if in_use or self._num_ending or self._scratch is None:
                return
            scratch, self._scratch = self._scratch, None
            # With the lock held: else another thread might make a directory, and its alarm would be cancelled.
            self._reaper.cancel()
        scratch.remove()

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
from beam_tfscript.worker.claim import Claim
from beam_tfscript.worker.device_leases import DeviceLease
from beam_tfscript.worker.endings import Endings
from beam_tfscript.worker.idle import IdleProcesses
from beam_tfscript.worker.lease import Lease
from beam_tfscript.worker.live_runs import LiveRuns
from beam_tfscript.worker.long_wait import Holder
from beam_tfscript.worker.pool_devices import YIELD_IDLE_S, PoolDevices
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_slots import ProcessSlots
from beam_tfscript.worker.process_spec import ProcessSpec
from beam_tfscript.worker.recycling import limit_reached
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
        self._devices = PoolDevices()
        self._users = Users()
        self._idle = IdleProcesses(self._users)
        self._endings = Endings(self._changed, self._remove_scratch_if_unused)
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
            self._endings.announce(*ending)
        self._endings.end(kill=ending)

    def stop(self, key: str) -> None:
        """Note that a script of `key` asked for the end of its feed."""
        with self._changed:
            self._users.stopped.add(key)

    def is_stopped(self, key: str) -> bool:
        """Return True if a script of `key` asked for the end of its feed, in this harness."""
        return key in self._users.stopped

    def warm(self, spec: ProcessSpec) -> None:
        """Start a process of this spec if none is idle, so that its start overlaps with other work.

        If the process needs accelerators, it is started only if enough are free. It gives them up as any idle process.
        """
        with self._changed:
            self._users.note_interpreter(spec)
            # The slot keeps DoFn instances that are set up at the same time from starting a process each.
            if self._idle.has(spec) or not self._slots.take(spec.key, spec.name, limit=1, wait=False):
                return
        try:
            leases = self._devices.spare(spec)
            process = None if leases is None else self._start(spec, *leases)
        finally:
            self._slots.give(spec.key)
        if process is not None:
            self._put_back(process)

    @contextlib.contextmanager
    def lease(self, spec: ProcessSpec, *, max_processes: int, user: object) -> Iterator[Lease]:
        """Lease a process that is ready; kill it at the end unless `Lease.keep` was called.

        Args:
          spec: of the process.
          max_processes: how many of the transform may be taken at a time.
          user: the DoFn instance that leases; `unregister(user)` ends its leases.

        Raises:
          ScriptEnvironmentError: a new process was not ready in time.
        """
        begin = time.monotonic()
        lease = Lease(self.acquire(spec, max_processes=max_processes, owner=user))
        try:
            lease.process.wait_ready()
            lease.wait_s = time.monotonic() - begin
            yield lease
        finally:
            lease.ended_by = self.release(lease.process, keep=lease.reusable)

    def acquire(self, spec: ProcessSpec, *, max_processes: int, owner: object) -> ScriptProcess:
        """Take a process for a bundle, as `acquire_all`; it may still be coming up."""
        [process] = self.acquire_all([spec], limit=max_processes, owner=owner, unused=False) or []
        process.bundle_thread = threading.get_ident()
        return process

    def acquire_all(
        self, specs: Sequence[ProcessSpec], *, limit: int, owner: object, unused: bool, wait: bool = True
    ) -> list[ScriptProcess] | None:
        """Take the processes of a whole run at once, with their accelerators; wait in order while there are too few.

        Args:
          specs: of the processes, all of one transform.
          limit: how many of the transform may be taken at a time.
          owner: takes the processes, which end when the owner is collected.
          unused: True if they must not have had a run: some of TensorFlow's settings, such as collective operations,
            can only be made in a new interpreter.
          wait: False to return None instead of a wait.

        Raises:
          ScriptEnvironmentError: a process cannot be started, or the holders of the others are lost; none is taken.
        """
        key = specs[0].key
        if not self._slots.take(key, specs[0].name, limit=limit, n=len(specs), wait=wait):
            return None
        try:
            with contextlib.ExitStack() as undo:
                with Claim(specs, self._devices.claim(specs, unused=unused), unused=unused) as claim, self._changed:
                    self._users.note_interpreter(specs[0])
                    found = claim.find(self._idle, self._leased, self._changed, wait=wait)
                    for spec, process, devices in found or ():
                        if devices is not None:
                            undo.callback(devices.close)
                        if process is not None:
                            process.spec = spec  # another transform may have started it
                            self._note_leased(process, owner, undo)
                if found is None:
                    return None
                taken = []
                for spec, process, devices in found:
                    if process is None:
                        process = self._start(spec, devices)
                        self._note_leased(process, owner, undo)
                    taken.append(process)
                undo.pop_all()
                return taken
        finally:
            # Also on an interrupt: a slot that is never given back is missing for good.
            self._slots.give(key, len(specs))

    def release(self, process: ScriptProcess, *, keep: bool) -> str | None:
        """Give a process back: to be used again if `keep`, else to be killed.

        Returns:
          The name of the limit for which a process that was to be kept has been ended; else None.
        """
        process.bundle_thread = None
        limit = None
        if keep and process.returncode is None:
            limit = limit_reached(process)
            if limit is None and not self._devices.is_due(process):
                self._put_back(process)
                return None
            process.close()
        # Before its slot is free: else there would be a process too many for a moment.
        process.kill()
        with self._changed:
            if self._leased.pop(process, None) is not None:
                self._slots.note_return(process.spec.key)
        self._remove_scratch_if_unused()
        return limit

    def shutdown(self) -> None:
        """End every process of this pool and remove its scratch directory."""
        if self.owner_pid != os.getpid():
            return  # a forked child: the processes are its parent's
        self.live_runs.clear()
        with self._changed:
            leased, idle = list(self._leased), self._idle.take_all()
            self._leased.clear()
            self._users.clear()
            self._endings.announce(*leased, *idle)
        self._endings.end(kill=leased, close=idle)
        self._endings.wait(_ENDING_S)  # another thread may be ending processes, whose scripts still log

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

    def _start(self, spec: ProcessSpec, devices: DeviceLease | None) -> ScriptProcess:
        scratch = self._own_scratch()
        return ScriptProcess.start(spec, scratch.path, scratch.guardian, devices)

    def _note_leased(self, process: ScriptProcess, owner: object, undo: contextlib.ExitStack) -> None:
        undo.callback(self.release, process, keep=False)
        with self._changed:
            self._leased[process] = weakref.ref(owner)

    def _put_back(self, process: ScriptProcess) -> None:
        with self._changed:
            self._leased.pop(process, None)
            self._idle.add(process)
            self._slots.note_return(process.spec.key)
            if self._users.unused_since(process) is not None:
                self._reaper.schedule(UNUSED_GRACE_S)
            if process.devices is not None:
                self._reaper.schedule(YIELD_IDLE_S)

    def _end_idle(self) -> None:
        """End processes that have been idle for long; runs on the alarm's thread, and schedules its next call."""
        with self._changed:
            now = time.monotonic()
            ending = self._idle.take_ended(idle_s=IDLE_TIMEOUT_S, unused_s=UNUSED_GRACE_S)
            for process in self._devices.surplus(self._idle.since):
                self._idle.remove(process)
                ending.append(process)
            self._devices.look_after(self._leased)
            wanted = self._devices.wanted(self._leased)
            used = self._users.keys()
            self._users.forget_left(before=now - UNUSED_GRACE_S)
            orphans = [process for process, owner in self._leased.items() if owner() is None]
            for process in orphans:
                del self._leased[process]
                self._slots.note_return(process.spec.key)
            if self._scratch is not None:
                has_devices = any(process.devices is not None for process in self._idle.since)
                self._reaper.schedule(min(YIELD_IDLE_S if has_devices else _REAPER_TICK_S, IDLE_TIMEOUT_S))
            self._endings.announce(*ending, *orphans)
        self._endings.end(kill=orphans, close=ending)
        for run in self.live_runs.take_abandoned(used, wanted):
            run.release(self)

    def _remove_scratch_if_unused(self) -> None:
        with self._changed:
            in_use = self._leased or self._slots.any_taken or self._users.keys() or self._idle
            if in_use or self._endings or self._scratch is None:
                return
            scratch, self._scratch = self._scratch, None
            self._devices.close()
            # With the lock held: else another thread might make a directory, and its alarm would be cancelled.
            self._reaper.cancel()
        scratch.remove()

"""Leases of this machine's accelerators, in lock files that all SDK harnesses of the machine share.

    <directory>/lock                  held while leases are counted and made: for milliseconds
    <directory>/lease-<name>          the accelerators of one script process, which holds the file's lock
    <directory>/wait-<time>-<name>    a run that waits, whose harness holds the lock; names are in order of time

The kernel frees a lock when the last process that holds it ends, even by kill -9. A script process inherits the lock of
its lease, and the harness closes its own copy. So accelerators are in use for exactly as long as the process lives. The
harness may die some time before it: then the guardian ends the process. Children that the script forks hold the lock
too. A file whose lock is free is of a dead process, and does not count.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.worker.device_shares import Demand, Use, add_use, no_use, place
from beam_tfscript.worker.long_wait import Holder

DIRECTORY_VARIABLE = "BEAM_TFSCRIPT_ACCELERATOR_LOCKS"
# Not in TMPDIR, which may be another directory for each harness.
_DEFAULT_DIRECTORY = "/tmp/beam_tfscript_accelerators"
_MUTEX = "lock"
_LEASE = "lease-"
_WAIT = "wait-"
# Longest wait for the mutex. Its holders need milliseconds; who gets none tries again, or says which file is locked.
_MUTEX_S = 0.5
_POLL_S = 0.002
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class DeviceLease:
    """Accelerators of one script process.

    Args:
      path: the lease's file.
      descriptor: of the file, which holds its lock; for the process to inherit.
      ids: the accelerators.
      share: number of accelerators, or the fraction of one.
    """

    def __init__(self, path: str, descriptor: int, ids: tuple[str, ...], share: float):
        self.ids = ids
        self.share = share
        self.began_at = time.monotonic()
        self.descriptor = descriptor
        self._path = path

    @property
    def name(self) -> str:
        """Name of the lease's file."""
        return os.path.basename(self._path)

    def close(self) -> None:
        """Give up this process's copy of the lock: the script process has its own, if it was started."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def note_heard(self, heard_at: float) -> None:
        """Note when the script process was heard, for runs that wait in other harnesses."""
        at = time.time() - (time.monotonic() - heard_at)
        with contextlib.suppress(OSError):  # another process has taken the lease's process for dead, and is right
            os.utime(self._path, (at, at))


class Turn:
    """A run's place in the machine's queue.

    Attributes:
      name: name of its file; names are in order of time.
    """

    def __init__(self, path: str, descriptor: int):
        self.name = os.path.basename(path)
        self._path = path
        self._descriptor = descriptor

    def close(self) -> None:
        """Leave the queue."""
        if self._descriptor >= 0:
            # Removed too: a child that this process has forked meanwhile holds the lock.
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = -1


class Waiting(NamedTuple):
    """A run in the queue, of any harness.

    Attributes:
      name: as of its `Turn`.
      demand: what it waits for.
    """

    name: str
    demand: Demand


class DeviceLeases:
    """The lock files; any number of objects and processes may share them.

    Raises:
      ScriptEnvironmentError: the directory cannot be used; from every method.
    """

    def __init__(self) -> None:
        self.directory = os.path.abspath(os.environ.get(DIRECTORY_VARIABLE) or _DEFAULT_DIRECTORY)
        with self._told():
            _make_shared(self.directory)

    def lease(self, demand: Demand, name: str, turn: Turn | None) -> list[DeviceLease] | None:
        """Lease accelerators for all processes of a run, or for none.

        Args:
          demand: what is needed.
          name: of the run, for errors of others.
          turn: the run's place in the queue; None if it has not waited.

        Returns:
          The leases, in the order of the demand. None if too few are free, or if those that are free are of runs which
          have waited longer.
        """
        with self._told(), self._locked() as is_locked:
            if not is_locked:
                return None
            use = self._use()
            for earlier in self._queue():
                if turn is not None and earlier.name >= turn.name:
                    break
                if set(earlier.demand.ids) & set(demand.ids) and place(earlier.demand, use) is None:
                    return None
            placed = place(demand, use)
            if placed is None:
                return None
            with contextlib.ExitStack() as undo:
                leases = []
                for ids, share in zip(placed, demand.shares):
                    leases.append(self._write_lease(ids, share, name))
                    undo.callback(leases[-1].close)
                undo.pop_all()
                return leases

    def queue(self, demand: Demand) -> Turn | None:
        """Join the queue; return None if its mutex is taken for long."""
        with self._told(), self._locked() as is_locked:
            if not is_locked:
                return None
            path = os.path.join(self.directory, f"{_WAIT}{time.monotonic_ns():020d}-{uuid.uuid4().hex}")
            return Turn(path, _create_locked(path, {"shares": demand.shares, "ids": demand.ids}))

    def first_blocked(self) -> tuple[Waiting, Use] | None:
        """Return the first run of the queue for which too little is free, and the use of all accelerators."""
        with self._told(), self._locked() as is_locked:
            if is_locked:
                use = self._use()
                for waiting in self._queue():
                    if place(waiting.demand, use) is None:
                        return waiting, use
        return None

    def holders(self, ids: Sequence[str]) -> dict[str, Holder]:
        """Return the leases of some accelerators: name -> the process that has it."""
        with self._told(), self._locked() as is_locked:
            if not is_locked:
                path = os.path.join(self.directory, _MUTEX)
                return {_MUTEX: Holder(f"a process that does not unlock {path} (`fuser {path}` names it)", 0.0)}
            now, clock = time.time(), time.monotonic()
            return {
                name: Holder(record["name"], clock - max(0.0, now - record["at"]))
                for name, record in self._records(_LEASE)
                if set(record["ids"]) & set(ids)
            }

    def _use(self) -> Use:
        use = no_use()
        for _, record in self._records(_LEASE):
            add_use(use, record["ids"], record["share"])
        return use

    def _queue(self) -> Iterator[Waiting]:
        for name, record in self._records(_WAIT):
            yield Waiting(name, Demand(tuple(record["shares"]), tuple(record["ids"])))

    def _write_lease(self, ids: tuple[str, ...], share: float, name: str) -> DeviceLease:
        path = os.path.join(self.directory, _LEASE + uuid.uuid4().hex)
        return DeviceLease(path, _create_locked(path, {"ids": ids, "share": share, "name": name}), ids, share)

    def _records(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (name, record) of living processes, in the order of the names; remove the files of dead ones.

        The mutex is held: so no file is new, and not locked yet.
        """
        for name in sorted(os.listdir(self.directory)):
            if not name.startswith(prefix):
                continue
            path = os.path.join(self.directory, name)
            try:
                descriptor = os.open(path, _READ)
            except FileNotFoundError:
                continue  # the run has left the queue
            with open(descriptor, "rb") as file:
                if _try_lock(descriptor):
                    with contextlib.suppress(OSError):  # another user's
                        os.unlink(path)
                else:
                    yield name, {**json.load(file), "at": os.fstat(descriptor).st_mtime}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the mutex in the block; yield False if another process has it for long."""
        mutex = self._open_mutex()
        try:
            deadline = time.monotonic() + _MUTEX_S
            while not (is_locked := _try_lock(mutex)) and time.monotonic() < deadline:
                time.sleep(_POLL_S)  # flock's own wait has no timeout
            yield is_locked
        finally:
            # Closing is not enough: for a moment, a process that another thread starts has a copy of the descriptor.
            fcntl.flock(mutex, fcntl.LOCK_UN)
            os.close(mutex)

    def _open_mutex(self) -> int:
        path = os.path.join(self.directory, _MUTEX)
        while True:
            try:
                # Not with O_CREAT: Linux may refuse that for another user's file in a directory that all may write to.
                return os.open(path, _READ)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    return _create(path)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            raise ScriptEnvironmentError(
                f"leases of accelerators cannot be kept in {self.directory}: {error}. Set {DIRECTORY_VARIABLE} to a "
                "local directory that all workers of this machine may write to, the same one for all."
            ) from error


def _make_shared(directory: str) -> None:
    """Make a directory that all users may write to, as they share the machine's accelerators."""
    try:
        os.makedirs(directory)
        os.chmod(directory, 0o1777)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(directory).st_mode):
            raise NotADirectoryError(f"{directory} is not a directory, or is a link") from None


def _create(path: str) -> int:
    """Make a file that all users may read, and so may lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    os.fchmod(descriptor, 0o644)  # whatever the umask
    return descriptor


def _create_locked(path: str, record: dict[str, Any]) -> int:
    """Make a file that this process holds the lock of; the mutex is held."""
    descriptor = _create(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, json.dumps(record).encode())
    except BaseException:
        os.unlink(path)
        os.close(descriptor)
        raise
    return descriptor


def _try_lock(descriptor: int) -> bool:
    """Take the lock of a file; return False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

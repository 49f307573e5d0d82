"""Leak check of every test: no process, thread, file or descriptor of this package is left."""

from __future__ import annotations

import gc
import os
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psutil

from beam_tfscript.runtime.transport.scratch import PREFIX
from tests.warm import WarmPool, is_shared

# Time for a process that is ending to be gone.
_GRACE_S = 30.0
# Directories of one process, run or attempt in a pool's scratch directory. Files of side inputs stay for a next run,
# until the scratch directory goes.
_SHORT_LIVED = ("process-", "run-", "outputs-")


@contextmanager
def assert_nothing_left(*, but_tcp: bool = False, warm: WarmPool | None = None) -> Iterator[None]:
    """Fail if the block leaves a child process, a thread, a scratch directory or a descriptor.

    Args:
      but_tcp: ignore TCP connections. Beam keeps those to a job server; this package's sockets are of another family.
      warm: pool whose shared processes may stay while they are idle, each with what belongs to it.
    """
    before = _snapshot(but_tcp, warm)
    yield
    begin = collect_at = time.monotonic()
    while left := _left_since(before, but_tcp, warm):
        now = time.monotonic()
        if now > begin + _GRACE_S:
            raise AssertionError("left behind: " + "; ".join(left))
        if now >= collect_at:
            # Objects of a failed run may be held by a cycle. Not each time: a collection takes a good part of a second.
            gc.collect()
            collect_at = now + 1
        time.sleep(0.05)


class _Owned(NamedTuple):
    """Belongings of a pool's shared processes that are idle.

    Attributes:
      pids: the processes and the pool's guardian.
      threads: identifiers of the threads that log their lines, and of the pool's alarm.
      paths: the scratch directory and the directories of the processes.
      descriptors: numbers.
    """

    pids: Set[int] = frozenset()
    threads: Set[int | None] = frozenset()
    paths: Set[str] = frozenset()
    descriptors: Set[int] = frozenset()


def _left_since(before: dict[str, set], but_tcp: bool, warm: WarmPool | None) -> list[str]:
    now = _snapshot(but_tcp, warm)
    return [f"{kind} {name}" for kind in now for name in sorted(now[kind] - before[kind])]


def _snapshot(but_tcp: bool, warm: WarmPool | None) -> dict[str, set]:
    # First: a process that becomes idle in between is left until the next look.
    owned = _Owned() if warm is None else _owned_by_idle(warm)
    return {
        "process": set(_processes(owned)),
        "thread": {
            f"{thread.name} ({thread.ident})"
            for thread in threading.enumerate()
            if thread.name.startswith("beam_tfscript") and thread.ident not in owned.threads
        },
        "directory": set(_directories(owned)),
        "descriptor": set(_descriptors(but_tcp, owned)),
    }


def _owned_by_idle(pool: WarmPool) -> _Owned:
    with pool._changed:
        idle = [process for process in pool._idle._since if is_shared(process)]
        scratch, alarm = pool._scratch, pool._reaper._thread
        if not idle or scratch is None:
            return _Owned()
        guardian = scratch.guardian._process
        assert guardian.stdin is not None
        files: list[Any] = [guardian.stdin]
        descriptors: set[int | None] = {scratch._lock}
        for process in idle:
            files += [process.channel._sock, process._popen.stdout, process._popen.stderr, process.log._asking]
            descriptors |= {process.log._asked, process._exit.descriptor}
        descriptors |= {file.fileno() for file in files if not getattr(file, "closed", False)}
        return _Owned(
            pids={process.pid for process in idle} | {guardian.pid},
            threads={process.log._thread.ident for process in idle} | ({alarm.ident} if alarm else set()),
            paths={scratch.path} | {process.directory for process in idle},
            descriptors={number for number in descriptors if number is not None and number >= 0},
        )


def _directories(owned: _Owned) -> Iterator[str]:
    with os.scandir(tempfile.gettempdir()) as entries:
        yield from (entry.path for entry in entries if entry.name.startswith(PREFIX) and entry.path not in owned.paths)
    for path in owned.paths:
        with suppress(FileNotFoundError), os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(_SHORT_LIVED) and entry.path not in owned.paths:
                    yield entry.path


def _processes(owned: _Owned) -> Iterator[str]:
    here = _network(os.getpid())
    for child in psutil.Process().children(recursive=True):
        if child.pid in owned.pids:
            continue
        with suppress(psutil.NoSuchProcess):  # the process ended just now
            # A process that has ended and was not reaped has no network of its own.
            network = _network(child.pid) or _network(child.ppid())
            # A process in another network runs on a machine of its own (tests/engines/machines.py).
            if network == here:
                yield f"{child.pid} {child.name()}"


def _network(pid: int) -> str | None:
    with suppress(FileNotFoundError, PermissionError):  # it has ended, or its parent has and is now process 1
        return os.readlink(f"/proc/{pid}/ns/net")
    return None


def _descriptors(but_tcp: bool, owned: _Owned) -> Iterator[str]:
    ignored = _tcp_sockets() if but_tcp else set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of this listing
        is_ours = not target.startswith(("/dev/", "anon_inode:[event")) and int(name) not in owned.descriptors
        if is_ours and target not in ignored:
            yield f"{name} -> {target}"


def _tcp_sockets() -> set[str]:
    lines = [line for name in ("tcp", "tcp6") for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]]
    return {f"socket:[{line.split()[9]}]" for line in lines}

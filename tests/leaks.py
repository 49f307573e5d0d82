"""What a test may leave behind: no process, thread, file or descriptor of this package."""

from __future__ import annotations

import gc
import os
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from beam_tfscript.runtime.transport.scratch import PREFIX
from beam_tfscript.worker import pool

# How long what is ending may take to be gone.
_GRACE_S = 15.0
# Of an idle process: the channel, its two streams, and what its log's thread waits with; of the pool: the guardian's
# streams and the lock of the scratch directory.
_DESCRIPTORS_OF_PROCESS, _DESCRIPTORS_OF_POOL = 8, 4


@contextmanager
def assert_nothing_left(*, but_tcp: bool = False, but_idle: bool = False) -> Iterator[None]:
    """Fails if the block leaves a child process, a thread, a scratch directory or a descriptor.

    Args:
      but_tcp: let TCP connections be. Beam keeps those to a job server; this package's sockets are of another family.
      but_idle: let the pool's idle processes be, and what belongs to them.
    """
    before = _snapshot(but_tcp)
    yield
    begin = collect_at = time.monotonic()
    while left := _left_since(before, but_tcp, but_idle):
        now = time.monotonic()
        if now > begin + _GRACE_S:
            raise AssertionError("left behind: " + "; ".join(left))
        if now >= collect_at:
            # What failed may hang on in a cycle. Not each time: it takes a good part of a second.
            gc.collect()
            collect_at = now + 1
        time.sleep(0.05)


def _snapshot(but_tcp: bool) -> dict[str, set]:
    return {
        "process": set(_processes()),
        "thread": {thread.name for thread in threading.enumerate() if thread.name.startswith("beam_tfscript")},
        "directory": {name for name in os.listdir(tempfile.gettempdir()) if name.startswith(PREFIX)},
        "descriptor": set(_descriptors(but_tcp)),
    }


def end_idle_processes() -> None:
    """End what tests have left in the pool for others."""
    if pool._pool is not None:
        pool._pool.shutdown()


def _left_since(before: dict[str, set], but_tcp: bool, but_idle: bool) -> list[str]:
    # Before the snapshot: a process that becomes idle in between is left until the next look.
    idle = _pids_of_idle() if but_idle else set()
    now = _snapshot(but_tcp)
    if idle:
        now["process"] = {name for name in now["process"] if int(name.split()[0]) not in idle}
        now["thread"] = set()
        now["directory"] = set()
        if len(now["descriptor"] - before["descriptor"]) <= _DESCRIPTORS_OF_PROCESS * len(idle) + _DESCRIPTORS_OF_POOL:
            now["descriptor"] = set()
    return [f"{kind} {name}" for kind in now for name in sorted(now[kind] - before[kind])]


def _pids_of_idle() -> set[int]:
    """The pool's idle processes and its guardian, where it has any."""
    found = pool._pool
    if found is None or found._scratch is None:
        return set()
    with found._changed:
        idle = {process.pid for process in found._idle._since}
        return idle | {found._scratch.guardian._process.pid} if idle else set()


def _processes() -> Iterator[str]:
    here = _network(os.getpid())
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended just now
            # A process that has ended and was not reaped has no network of its own.
            network = _network(child.pid) or _network(child.ppid())
            # A process in another network runs on a machine of its own (tests/engines/machines.py).
            if network == here:
                yield f"{child.pid} {child.name()}"


def _network(pid: int) -> str | None:
    with suppress(FileNotFoundError):
        return os.readlink(f"/proc/{pid}/ns/net")
    return None


def _descriptors(but_tcp: bool) -> Iterator[str]:
    ignored = _tcp_sockets() if but_tcp else set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of this listing
        if not target.startswith(("/dev/", "anon_inode:[event")) and target not in ignored:
            yield f"{name} -> {target}"


def _tcp_sockets() -> set[str]:
    lines = [line for name in ("tcp", "tcp6") for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]]
    return {f"socket:[{line.split()[9]}]" for line in lines}

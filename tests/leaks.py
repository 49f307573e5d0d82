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

from beam_tfscript.runtime.scratch import PREFIX

# How long what is ending may take to be gone.
_GRACE_S = 15.0


@contextmanager
def assert_nothing_left(*, but_tcp: bool = False) -> Iterator[None]:
    """Fails if the block leaves a child process, a thread, a scratch directory or a descriptor.

    Args:
      but_tcp: let TCP connections be. Beam keeps those to a job server; this package's sockets are of another family.
    """
    before = _snapshot(but_tcp)
    yield
    deadline = time.monotonic() + _GRACE_S
    while left := _left_since(before, but_tcp):
        if time.monotonic() > deadline:
            raise AssertionError("left behind: " + "; ".join(left))
        gc.collect()
        time.sleep(0.05)


def _snapshot(but_tcp: bool) -> dict[str, set]:
    return {
        "process": set(_processes()),
        "thread": {thread.name for thread in threading.enumerate() if thread.name.startswith("beam_tfscript")},
        "directory": {name for name in os.listdir(tempfile.gettempdir()) if name.startswith(PREFIX)},
        "descriptor": set(_descriptors(but_tcp)),
    }


def _left_since(before: dict[str, set], but_tcp: bool) -> list[str]:
    now = _snapshot(but_tcp)
    return [f"{kind} {name}" for kind in now for name in sorted(now[kind] - before[kind])]


def _processes() -> Iterator[str]:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended just now
            yield f"{child.pid} {child.name()}"


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

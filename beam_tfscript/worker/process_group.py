"""Process groups of scripts: one is started for each script process, and killed as a whole."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator

from beam_tfscript.worker.device_leases import DeviceLease
from beam_tfscript.worker.guardian import Guardian
from beam_tfscript.worker.handshake import COMMAND
from beam_tfscript.worker.process_spec import ProcessSpec, make_environment

_LOGGER = logging.getLogger(__name__)

# How long a killed process may take to be gone: one that waits for a device or a file server takes its time.
_GONE_S = 10.0
# Starting processes from several threads at once leaks descriptors into each other's children.
_SPAWN_LOCK = threading.Lock()


def spawn(
    spec: ProcessSpec, channel: int, directory: str, scratch_path: str, devices: DeviceLease | None = None
) -> subprocess.Popen:
    """Start an interpreter, as the leader of a process group of its own.

    Args:
      spec: the interpreter and its environment.
      channel: descriptor of the process's end of the channel.
      directory: its current directory.
      scratch_path: the harness's scratch directory.
      devices: the accelerators that it gets; it inherits their lock.
    """
    with _SPAWN_LOCK, _shared_lock(spec.use_marker) as held:
        return subprocess.Popen(
            [spec.python, "-c", COMMAND],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env=make_environment(spec, channel, scratch_path, () if devices is None else devices.ids),
            pass_fds=(channel, *held, *(() if devices is None else (devices.descriptor,))),
            # A group of its own: processes that the script starts are ended with it.
            start_new_session=True,
        )


def kill_group(popen: subprocess.Popen, guardian: Guardian) -> None:
    """Kill a process and its group, then reap it: not before, as its id may then be another group's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, signal.SIGKILL)
    guardian.forget(popen.pid)
    try:
        popen.wait(_GONE_S)
    except subprocess.TimeoutExpired:
        _LOGGER.error(
            "process %d is killed, and not gone after %g s: it waits for the kernel (a device, a file server)",
            popen.pid, _GONE_S,
        )  # fmt: skip


@contextlib.contextmanager
def _shared_lock(path: str | None) -> Iterator[list[int]]:
    """Yield a descriptor that holds the lock, for the process that is started meanwhile; none without a path."""
    if path is None:
        yield []
        return
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield [file.fileno()]

"""One script process: how it is started, how it ends, and what is said of that."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from beam_tfscript.errors import ProtocolError, ScriptDied, ScriptEnvironmentError
from beam_tfscript.runtime import launcher, wire
from beam_tfscript.worker.channel import Channel, ChannelClosed
from beam_tfscript.worker.handshake import COMMAND, check_sides
from beam_tfscript.worker.log_lines import LogLines

if TYPE_CHECKING:
    from beam_tfscript.worker.feed_session import FeedSession

# How long a process that was told to close may take for its exit handlers before it is killed.
_CLOSE_GRACE_S = 5.0
# How long the log may take to drain after a process' end; a grandchild that holds the pipe is dead by then.
_DRAIN_S = 5.0
# Packages of this interpreter are none of the script's; nor is it a task of a cluster that this process is in.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "TF_CONFIG")
# Starting processes from several threads at once leaks descriptors into each other's children.
_SPAWN_LOCK = threading.Lock()


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
    """What a script process is started with.

    Attributes:
      key: processes of one key are interchangeable.
      name: what the log calls it before it serves a run: the script's name.
      python: path of the interpreter.
      runtime_path: directory that holds the copy of this package for the script's interpreter.
      env: environment variables on top of the pipeline's own.
      intra_op_parallelism: threads of TensorFlow's and OpenMP's pools; 0 leaves them alone.
      start_timeout_s: how long the interpreter and its import of TensorFlow may take.
      idle_timeout_s: how long it may be idle before it is ended; None for the pool's default.
      use_marker: a file to hold a shared lock on while the process lives, by which its environment is not removed.
    """

    key: str
    name: str
    python: str
    runtime_path: str
    env: Mapping[str, str]
    intra_op_parallelism: int
    start_timeout_s: float
    idle_timeout_s: float | None = None
    use_marker: str | None = None


class ScriptProcess:
    """A running interpreter with the runtime in it; made by `start`, and owned by one lease at a time.

    Attributes:
      pid: its process id, and its process group's.
      channel: frames to and from it.
      runs: how many runs it was given.
      directory: its own directory, which goes when it ends.
      start_s: seconds from its start until it was ready; 0 until then.
      live: the run that goes on in it from lease to lease, where there is one.
    """

    def __init__(self, spec: ProcessSpec, popen: subprocess.Popen, sock: socket.socket, directory: str):
        self.spec = spec
        self.pid = popen.pid
        self.runs = 0
        self.start_s = 0.0
        self.started_at = time.monotonic()
        self.ready: dict | None = None
        self.live: FeedSession | None = None
        self._popen = popen
        self.directory = directory
        self._is_closing = False
        self._ended = False
        self._oom_kills = _count_oom_kills()
        self._exit_descriptor = _open_exit_descriptor(popen.pid)
        self.channel = Channel(sock, self._exit_descriptor, lambda: popen.poll() is None)
        assert popen.stdout is not None and popen.stderr is not None
        self.log = LogLines(popen.stdout, popen.stderr, spec.name)

    @classmethod
    def start(cls, spec: ProcessSpec, scratch: str) -> ScriptProcess:
        """Starts an interpreter; returns at once, `wait_ready` waits for it.

        Args:
          spec: what to start.
          scratch: the harness' scratch directory.

        Raises:
          ScriptEnvironmentError: the interpreter cannot be started.
        """
        ours, theirs = socket.socketpair()
        directory = tempfile.mkdtemp(prefix="process-", dir=scratch)
        try:
            with _SPAWN_LOCK, _shared_lock(spec.use_marker) as held:
                popen = subprocess.Popen(
                    [spec.python, "-c", COMMAND],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=directory,
                    env=_make_environment(spec, theirs.fileno(), scratch),
                    pass_fds=(theirs.fileno(), *held),
                    # A group of its own: what the script starts is ended with it.
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            shutil.rmtree(directory, ignore_errors=True)
            raise ScriptEnvironmentError(
                f"the interpreter {spec.python!r} of script {spec.name} cannot be started: {error}"
            ) from error
        finally:
            theirs.close()
        return cls(spec, popen, ours, directory)

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Waits until the interpreter is up.

        Args:
          timeout_s: how long to wait; None for as long as the start may take.

        Returns:
          Whether it is up.

        Raises:
          ScriptDied: a signal has ended it.
          ScriptEnvironmentError: it ended by itself, or was not up within `start_timeout_s`.
          ProtocolError: it speaks another protocol.
        """
        if self.ready is not None:
            return True
        remaining = max(0.0, self.started_at + self.spec.start_timeout_s - time.monotonic())
        try:
            frame = self.channel.receive(remaining if timeout_s is None else min(timeout_s, remaining))
        except ChannelClosed as error:
            explained = self._explain_failed_start(self.describe_end())
            if (self.returncode or 0) < 0:
                # A signal is the machine's doing: what it ended may well come up next time.
                raise ScriptDied(explained, returncode=self.returncode) from error
            raise ScriptEnvironmentError(explained) from error
        if frame is None:
            if time.monotonic() < self.started_at + self.spec.start_timeout_s:
                return False
            self.kill()
            raise ScriptEnvironmentError(
                self._explain_failed_start(f"was not up after start_timeout={self.spec.start_timeout_s:g} s")
            )
        if frame.kind != wire.READY:
            raise ProtocolError(f"{self!r} sent {frame.name} where READY was due")
        self.ready = frame.json()
        check_sides(self.spec.python, self.ready)
        self.start_s = time.monotonic() - self.started_at
        return True

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it lives."""
        return self._popen.poll()

    def describe_end(self) -> str:
        """How the process ended, in words; waits for the end of a process that is ending."""
        try:
            code = self._popen.wait(_CLOSE_GRACE_S)
        except subprocess.TimeoutExpired:
            return "lives on, but does not answer on its channel"
        self.log.join(_DRAIN_S)
        if code >= 0:
            return f"ended with exit status {code}"
        name = signal.Signals(-code).name
        if -code != signal.SIGKILL:
            return f"was ended by {name}"
        kills = _count_oom_kills() - self._oom_kills
        if kills > 0:
            return f"was ended by {name}, out of memory: the kernel's count of such kills rose by {kills}"
        return f"was ended by {name}, likely out of memory if nobody killed it by hand"

    def died(self, what: str) -> ScriptDied:
        """The error for a process that ended in the middle of `what`."""
        end = self.describe_end()
        return ScriptDied(
            f"{what}: its process (pid {self.pid}) {end}.{self._show_tail()}", returncode=self._popen.poll()
        )

    def ask_to_close(self) -> None:
        """Tells an idle process to end, without waiting for it."""
        if self.returncode is None and not self._is_closing:
            self._is_closing = True
            if self.live is not None:
                self.live.end_feed()
            self.channel.send(wire.control_frame(wire.CLOSE))

    def close(self) -> None:
        """Ends an idle process in order; kills one that does not end, or that nobody has seen come up."""
        self.ask_to_close()
        if self.returncode is None and self.ready is not None:
            if self.live is not None:
                self.live.close(_CLOSE_GRACE_S)
            try:
                self._popen.wait(_CLOSE_GRACE_S)
            except subprocess.TimeoutExpired:
                pass  # `kill` is next
        self.kill()

    def kill(self) -> None:
        """Ends the process and all it started, at once, and gives back what it held; may be called again."""
        if self._ended:
            return
        self._ended = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # all of its group is gone
        self._popen.wait()
        self.log.join(_DRAIN_S)
        self.channel.close()
        if self._exit_descriptor is not None:
            os.close(self._exit_descriptor)
            self._exit_descriptor = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def _explain_failed_start(self, end: str) -> str:
        return (
            f"the process of script {self.spec.name} {end} before it was ready, after "
            f"{time.monotonic() - self.started_at:.1f} s. Its interpreter is {self.spec.python}; see whether "
            f"`{self.spec.python} -c 'import tensorflow'` works there.{self._show_tail()}"
        )

    def _show_tail(self) -> str:
        tail = self.log.tail()
        return f" The last lines of its stderr:\n{tail}" if tail else " It printed nothing on stderr."

    def __repr__(self) -> str:
        state = "alive" if self.returncode is None else f"ended with {self.returncode}"
        return f"<ScriptProcess {self.spec.name} pid={self.pid}: {state}, {self.runs} runs>"


@contextlib.contextmanager
def _shared_lock(path: str | None) -> Iterator[list[int]]:
    """A descriptor with the lock, for the process that is started meanwhile; none where there is nothing to lock."""
    if path is None:
        yield []
        return
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield [file.fileno()]


def _make_environment(spec: ProcessSpec, descriptor: int, scratch: str) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    # The import of TensorFlow says a dozen lines about the processor; `env` may ask for them again.
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if spec.intra_op_parallelism:
        threads = str(spec.intra_op_parallelism)
        environment.update(OMP_NUM_THREADS=threads, TF_NUM_INTRAOP_THREADS=threads)
    environment.update(spec.env)
    more = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = spec.runtime_path + (os.pathsep + more if more else "")
    environment[launcher.CHANNEL_VARIABLE] = str(descriptor)
    environment[launcher.SCRATCH_VARIABLE] = scratch
    environment[launcher.THREADS_VARIABLE] = str(spec.intra_op_parallelism)
    return environment


def _open_exit_descriptor(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends, where the system has such."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _count_oom_kills() -> int:
    """How many processes this machine's kernel killed for want of memory; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as counters:
            for line in counters:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0

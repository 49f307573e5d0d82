"""One script process: its start, its end, and the errors that describe both."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable

from beam_tfscript.errors import ProtocolError, ScriptDied, ScriptEnvironmentError
from beam_tfscript.runtime.run import launcher
from beam_tfscript.runtime.transport import scratch, wire
from beam_tfscript.worker.activity import count_oom_kills, describe_activity
from beam_tfscript.worker.channel import Channel, ChannelClosed
from beam_tfscript.worker.device_leases import DeviceLease
from beam_tfscript.worker.exit_status import ExitStatus
from beam_tfscript.worker.guardian import Guardian
from beam_tfscript.worker.handshake import check_versions
from beam_tfscript.worker.kept_run import KeptRun
from beam_tfscript.worker.log_lines import LogLines
from beam_tfscript.worker.process_group import kill_group, spawn
from beam_tfscript.worker.process_spec import ProcessSpec

# How long a process that was told to close may take for its exit handlers; then it is killed.
_CLOSE_GRACE_S = 5.0
# How long the log may take to drain after a process's end; a grandchild that holds the pipe is dead by then.
_DRAIN_S = 5.0
# How long lines that a failed run has printed may take to be read; they are in the pipe already.
_SETTLE_S = 1.0
# Number of lines that an error shows beside a traceback.
_PRINTED_LINES = 20
# How long an interpreter's dump of its Python stack may take to be written.
_DUMP_S = 1.0


class ScriptProcess:
    """A running interpreter with the runtime in it; made by `start`, and owned by one lease at a time.

    Attributes:
      spec: its interpreter and environment, and the transform that has it now or had it last.
      pid: its process id, which is its process group's id too.
      channel: frames to and from it.
      runs: number of runs that it was given.
      label: the last run that it was given, for the log and for errors.
      directory: its own directory, removed when it has ended.
      ready: the JSON object of its READY frame; None until it is up.
      start_s: seconds from its start until it was ready; 0 until then.
      devices: the accelerators that it has for as long as it lives; None if none were leased.
      bundle_thread: thread of the bundle that has it, and gives it back; None if it outlives bundles, or is idle.
    """

    def __init__(
        self, spec: ProcessSpec, popen: subprocess.Popen, sock: socket.socket, directory: str, guardian: Guardian
    ):
        self.spec = spec
        self.pid = popen.pid
        self.runs = 0
        self.label = f"{spec.name}, not at a run yet"
        self.start_s = 0.0
        self.started_at = time.monotonic()
        self.ready: dict | None = None
        self.directory = directory
        self.devices: DeviceLease | None = None
        self.bundle_thread: int | None = None
        self._popen = popen
        self._guardian = guardian
        self._is_closing = False
        self._ended = False
        self._end_lock = threading.Lock()
        self._kept_run: KeptRun | None = None
        self._on_end: Callable[[], None] = lambda: None
        self._oom_kills = count_oom_kills()
        assert popen.stdout is not None and popen.stderr is not None
        # First, as it may fail: the next lines open a descriptor, which would leak.
        self.log = LogLines(popen.stdout, popen.stderr, spec.name, spec.log_level)
        self._exit = ExitStatus(popen)
        self.channel = Channel(sock, self._exit.descriptor, lambda: self._exit.returncode is None)

    @classmethod
    def start(
        cls, spec: ProcessSpec, scratch_path: str, guardian: Guardian, devices: DeviceLease | None = None
    ) -> ScriptProcess:
        """Start an interpreter, and return at once; `wait_ready` waits for it.

        Args:
          spec: of the process.
          scratch_path: the harness's scratch directory.
          guardian: ends the process if this one dies.
          devices: the accelerators that it gets. The lease ends with the process, or now if it cannot be started.

        Raises:
          ScriptEnvironmentError: the interpreter cannot be started.
        """
        with (
            contextlib.nullcontext() if devices is None else contextlib.closing(devices),
            contextlib.ExitStack() as undo,
        ):
            try:
                ours, theirs = socket.socketpair()
                undo.callback(ours.close)
                with theirs:
                    directory = tempfile.mkdtemp(prefix="process-", dir=scratch_path)
                    undo.callback(shutil.rmtree, directory, ignore_errors=True)
                    popen = spawn(spec, theirs.fileno(), directory, scratch_path, devices)
                undo.callback(kill_group, popen, guardian)
                guardian.watch(popen.pid)
                process = cls(spec, popen, ours, directory, guardian)
                process.devices = devices
            except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
                raise ScriptEnvironmentError(
                    f"the interpreter {spec.python!r} of script {spec.name} cannot be started: {error}"
                ) from error
            undo.pop_all()
            return process

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until the interpreter is up.

        Args:
          timeout_s: longest wait in seconds; None for as long as the start may take.

        Returns:
          True if it is up.

        Raises:
          ScriptDied: a signal has ended it, or it sent bytes that are no frame, and was killed.
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
                # Signals come from outside the process, as from the kernel's OOM killer: the next one may come up.
                raise ScriptDied(explained, returncode=self.returncode) from error
            raise ScriptEnvironmentError(explained) from error
        except ProtocolError as error:
            self.kill()
            explained = self._explain_failed_start(f"was killed ({error})")
            raise ScriptDied(explained, returncode=self.returncode) from error
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
        check_versions(self.spec.python, self.ready)
        self.start_s = time.monotonic() - self.started_at
        return True

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while the process lives."""
        return self._exit.returncode

    def describe_end(self) -> str:
        """Return the way in which the process ended, in words; wait for one that is about to end."""
        if not self._exit.wait(_CLOSE_GRACE_S):
            return "lives on, but does not answer on its channel"
        self.log.join(_DRAIN_S)
        code = self.returncode or 0
        if code >= 0:
            return f"ended with exit status {code}"
        name = signal.Signals(-code).name
        if -code != signal.SIGKILL:
            return f"was ended by {name}"
        kills = count_oom_kills() - self._oom_kills
        if kills > 0:
            return f"was ended by {name}, out of memory: the kernel's count of such kills rose by {kills}"
        return f"was ended by {name}, likely out of memory if nobody killed it by hand"

    def died(self, label: str) -> ScriptDied:
        """Return the error for a process that ended in the middle of the run `label`."""
        end = f"{label}: its process (pid {self.pid}) {self.describe_end()}."
        tail = self._show_tail()
        # The same text is the first and the last line: runners show a long traceback around the message.
        last = f"\n{end}" if "\n" in tail else ""
        return ScriptDied(end + tail + last, returncode=self.returncode)

    def hangs(self, silence: str) -> ScriptDied:
        """Kill a process that cannot answer; return the error with its activity and its Python stacks.

        Args:
          silence: the run, and for how long it has been silent, in words.
        """
        activity = describe_activity(self.pid)
        # A signal handler writes the Python stacks, without the interpreter lock: so they show the C call's caller.
        if launcher.STACK_SIGNAL is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, launcher.STACK_SIGNAL)
            self._exit.wait(_DUMP_S)
        tail = self._show_tail()
        self.kill()
        return ScriptDied(
            f"{silence}, and its process (pid {self.pid}) does not answer a request for its stack: {activity}. "
            f"The process counts as dead and was killed.{tail}",
            returncode=self.returncode,
        )

    def keep_run(self, run: KeptRun, *, on_end: Callable[[], None]) -> None:
        """Keep a run that goes on from lease to lease; the process then serves its own transform alone.

        Args:
          run: ended in order when the process is closed.
          on_end: called when the process has ended in any way, before its directory is removed.
        """
        self._kept_run, self._on_end = run, on_end

    @property
    def kept_run(self) -> KeptRun | None:
        """The run that goes on from lease to lease; None if there is none."""
        return self._kept_run

    def fits(self, spec: ProcessSpec) -> bool:
        """Return True if the process, while it is idle, may serve runs of a spec."""
        is_free = self._kept_run is None or self.spec.key == spec.key
        has_runs_left = spec.max_runs is None or self.runs < spec.max_runs
        return is_free and has_runs_left and self.spec.interpreter == spec.interpreter

    def ask_to_close(self) -> None:
        """Tell an idle process to end, without waiting for it."""
        if self.returncode is None and not self._is_closing:
            self._is_closing = True
            if self._kept_run is not None:
                self._kept_run.end_feed()
            self.channel.send(wire.control_frame(wire.CLOSE))

    def close(self) -> None:
        """End an idle process in order; kill one that does not end, or that was not up yet."""
        self.ask_to_close()
        if self.returncode is None and self.ready is not None:
            if self._kept_run is not None:
                self._kept_run.close()
            self._exit.wait(_CLOSE_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """End the process and all that it started, at once, and free its resources; may be called again."""
        # A bundle and the pool's own thread may both end it.
        with self._end_lock:
            if self._ended:
                return
            self._ended = True
        kill_group(self._popen, self._guardian)
        # Errors that are made after the kill show the last lines.
        self.log.join(_DRAIN_S)
        self.log.close()
        self.channel.close()
        self._exit.close()
        self._on_end()
        scratch.remove_tree(self.directory)

    def _explain_failed_start(self, end: str) -> str:
        return (
            f"the process of script {self.spec.name} {end} before it was ready, after "
            f"{time.monotonic() - self.started_at:.1f} s. Its interpreter is {self.spec.python}; see whether "
            f"`{self.spec.python} -c 'import tensorflow'` works there.{self._show_tail()}"
        )

    def printed(self) -> str:
        """Return the last lines that the present run printed, each behind a bar; empty if there are none."""
        self.log.settle(_SETTLE_S)
        return "".join(f"  | {line}\n" for line in self.log.tail(_PRINTED_LINES).splitlines())

    def _show_tail(self) -> str:
        self.log.settle(_SETTLE_S)
        return f" The last lines that it printed:\n{tail}" if (tail := self.log.tail()) else " It printed nothing."

    def __repr__(self) -> str:
        state = "alive" if self.returncode is None else f"ended with {self.returncode}"
        return f"<ScriptProcess {self.spec.name} pid={self.pid}: {state}, {self.runs} runs>"

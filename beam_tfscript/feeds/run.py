"""One run on one process: its request goes out, its frames come back, and its end is the run's result or an error.

Every feed is built on `Run`. A run that is fed while it goes on is a `FedRun`; several runs of one cluster are a
`RunGroup`.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from typing import Any

from beam_tfscript.errors import ProtocolError, ScriptDied
from beam_tfscript.feeds.failures import IdleProcessDied, translate_failure
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.activity import cpu_seconds
from beam_tfscript.worker.channel import ChannelClosed
from beam_tfscript.worker.process import ScriptProcess

_LOGGER = logging.getLogger(__name__)

# How long a script may take, at least, to answer a PROBE with its stack. Its process answers from a thread of its own,
# which needs Python's interpreter lock for a moment. A machine that swaps, or TensorFlow while it connects to the other
# tasks of a cluster, can keep the lock for seconds.
ANSWER_S = 15.0
# The share of one core above which a process that does not answer is computing, and not stuck.
_AT_WORK = 0.02
# Frames that the run's owner deals with; the other kinds are about the run itself.
_FOR_OWNER = (wire.EXAMPLES, wire.METRICS, wire.ACK, wire.REPORT, wire.EXPORT)


@dataclasses.dataclass(frozen=True)
class RunRequest:
    """The request of one run, from which the script's config is made.

    Attributes:
      label: script, task, shard, window and attempt, for the log and for errors.
      message: the JSON object of the RUN frame.
      silence_s: `feed_timeout` in seconds: after a silence of this length the script is asked for its stack.
    """

    label: str
    message: dict[str, Any]
    silence_s: float


class Run:
    """A run of one request on a process.

    Args:
      process: leased for the run; it may still be coming up.
      request: the run's request.

    Attributes:
      label: the run's name.
      process: the process that it runs on.
      summary: the JSON object of the DONE frame; None while the run goes on.
      completed: True if the run ended well; only then may the process be used again.
      is_doubtful: True if the run ended well, but probably by mistake.
      failed_at: when the script raised, on this machine's monotonic clock; infinite until then.
    """

    def __init__(self, process: ScriptProcess, request: RunRequest):
        self.label = request.label
        self.process = process
        self.summary: dict[str, Any] | None = None
        self.completed = False
        self.failed_at = float("inf")
        self.is_doubtful = False
        self._request = request
        self._has_used_process = process.runs > 0
        self._started = False
        self._heard_at = time.monotonic()
        # When the script was asked for its stack and has sent nothing since; and the CPU time it had used by then.
        self._asked_at: float | None = None
        self._was_asked = False  # True if the last frame came after the question
        self._cpu_s: float | None = None

    @property
    def is_over(self) -> bool:
        """True if `main` has returned."""
        return self.summary is not None

    def start(self) -> None:
        """Send the request; a process that is still coming up takes it when it is up."""
        self.process.runs += 1
        self.process.label = self.label
        self.process.channel.send(wire.control_frame(wire.RUN, {**self._request.message, "label": self.label}))

    def frames(self) -> Iterator[wire.Frame]:
        """Send the request, and yield the run's frames until the run is over.

        Raises:
          As `receive`.
        """
        self.start()
        while frame := self.receive():
            yield frame

    def receive(self, timeout_s: float | None = None) -> wire.Frame | None:
        """Wait for the next frame of the run, and first for a process that is still coming up.

        Without a timeout the wait is as long as the script computes, which nothing limits. The wait ends with the
        process, whose death is seen at once, or with its lease, which the bundle's owner ends. After a long silence
        the script is asked for its stack.

        Args:
          timeout_s: longest wait in seconds; None for no limit.

        Returns:
          An EXAMPLES, METRICS, ACK, REPORT or EXPORT frame; None when the run is over, or after the timeout.

        Raises:
          IdleProcessDied: the process, which earlier runs had used, ended before it took the run.
          ScriptLoadError, ScriptRaised, ScriptDied: the run failed.
          ScriptEnvironmentError: the process did not come up.
          ProtocolError: the process sent a frame that is not due.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if self.process.ready is None:
            if not self.process.wait_ready(timeout_s):
                return None
            self._heard_at = time.monotonic()
        while self.summary is None:
            frame = self._receive(deadline)
            if frame is None or frame.kind in _FOR_OWNER:
                return frame
            self._take(frame)
        return None

    def receive_answer(self) -> wire.Frame:
        """Wait for the answer to a request that was sent after the run.

        Raises:
          ScriptDied: the process ended while it answered, or does not answer.
        """
        while True:
            frame = self._receive(None)
            if frame is not None and frame.kind in (wire.INSPECTED, wire.FAILED):
                return frame
            _LOGGER.info("%s: its process has not answered yet", self.label)

    def _take(self, frame: wire.Frame) -> None:
        """Deal with a frame that is about the run itself."""
        if frame.kind == wire.STARTED:
            self._started = True
        elif frame.kind == wire.DONE:
            self.summary = frame.json()
            self._finish(self.summary)
            self._log_doubt(self.summary["doubt"])
        elif frame.kind == wire.FAILED:
            self.failed_at = frame.json()["at"]
            raise translate_failure(self.label, frame.json(), self.process.printed())
        elif frame.kind == wire.STACK:
            # A stack is out of date if the script has sent something between the question and this answer.
            if self._was_asked:
                self._on_silence(frame.json()["stack"])
        else:
            raise ProtocolError(f"{self.label}: {frame.name} is not due in a run")

    def _receive(self, deadline: float | None) -> wire.Frame | None:
        """Wait for the next frame until the deadline; look into a long silence, whatever the deadline."""
        try:
            while True:
                due = self._silence_due()
                until = due if deadline is None else min(due, deadline)
                frame = self.process.channel.receive(max(0.0, until - time.monotonic()))
                if frame is not None:
                    self._was_asked = self._asked_at is not None
                    self._end_silence()
                    return frame
                if time.monotonic() < due:
                    return None
                self._look_into_silence()
        except ChannelClosed as error:
            raise self._describe_death() from error
        except ProtocolError as error:
            self.process.kill()
            raise ScriptDied(
                f"{self.label}: {error}. Its process (pid {self.process.pid}) was killed, as nothing that it sends can "
                "be trusted any more.",
                returncode=self.process.returncode,
            ) from error

    def _describe_death(self) -> ScriptDied:
        """Return the error for the end of the process: all feeds get it from here."""
        if self._started or not self._has_used_process:
            return self.process.died(self.label)
        end = self.process.describe_end()  # waits for the exit status, which the process's repr shows
        return IdleProcessDied(
            f"{self.label}: the idle process {self.process!r} {end}; another one takes the run",
            returncode=self.process.returncode,
        )

    def _end_silence(self) -> None:
        """Count the silence from now on."""
        self._heard_at = time.monotonic()
        self._asked_at = None

    def _silence_due(self) -> float:
        """Return the time at which the silence is too long; infinite while the script may be silent."""
        if not self._started:
            return self._heard_at + self.process.spec.start_timeout_s
        if not self._is_frame_due:
            return float("inf")
        if self._asked_at is not None:
            return self._asked_at + self._answer_s
        return self._heard_at + self._request.silence_s

    def _look_into_silence(self) -> None:
        """Ask a silent script for its stack; deal with one that was asked and has not answered."""
        if not self._started:
            raise self.process.hangs(
                f"{self.label} did not start within start_timeout={self.process.spec.start_timeout_s:g} s"
            )
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._cpu_s = cpu_seconds(self.process.pid)
            self.process.channel.send(wire.control_frame(wire.PROBE))
        else:
            self._on_no_answer()

    @property
    def _is_frame_due(self) -> bool:
        """True if the script may not be silent for long: a run that has all its rows computes, or sends outputs."""
        return True

    @property
    def _answer_s(self) -> float:
        """Seconds that the script may take to answer with its stack.

        A run of any length may spend it in one C call that lets no other thread run.
        """
        return max(ANSWER_S, self._request.silence_s) if self._has_own_pace else ANSWER_S

    @property
    def _has_own_pace(self) -> bool:
        """True if the run may compute for any time without a frame."""
        return True

    def _on_no_answer(self) -> None:
        """End a process that neither answers nor computes; leave one that computes alone, and say so in the log."""
        silent_s = self._request.silence_s + self._answer_s
        used_s = cpu_seconds(self.process.pid)
        if used_s is not None and self._cpu_s is not None and used_s - self._cpu_s < _AT_WORK * self._answer_s:
            raise self.process.hangs(f"{self.label} has said nothing for {silent_s:g} s")
        _LOGGER.warning(
            "%s has said nothing for %g s and cannot say where it is: it computes inside one call that holds Python's "
            "interpreter lock",
            self.label, silent_s,
        )  # fmt: skip
        self._end_silence()

    def _finish(self, summary: dict[str, Any]) -> None:
        """Take in the end of a run that ended well."""
        self.completed = summary["reusable"]
        if summary["leftovers"]:
            _LOGGER.warning(
                "%s returned, but left %s behind: its process is ended and the next run gets a new one. "
                "Join what main starts before it returns.",
                self.label,
                " and ".join(summary["leftovers"]),
            )

    def _log_doubt(self, doubt: dict[str, Any] | None) -> None:
        """Log a probable mistake of the script as a warning, and a possible one as information."""
        if doubt is not None:
            self.is_doubtful = doubt["is_doubt"]
            _LOGGER.log(logging.WARNING if self.is_doubtful else logging.INFO, "%s: %s.", self.label, doubt["text"])

    def _on_silence(self, stack: str) -> None:
        """Deal with the stack of a silent script."""
        if self._request.message.get("is_hosted"):
            return  # a parameter server of TensorFlow's own serves the other tasks, and sends nothing
        _LOGGER.warning("%s has said nothing for %g s; it is at\n%s", self.label, self._request.silence_s, stack)


__all__ = ["Run", "RunRequest"]

"""One run on one process: the request out, the reports back, and the end told in full."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from typing import Any

from beam_tfscript.errors import ProtocolError, ScriptDied
from beam_tfscript.feeds.failures import translate_failure
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.activity import cpu_seconds
from beam_tfscript.worker.channel import ChannelClosed
from beam_tfscript.worker.process import ScriptProcess

_LOGGER = logging.getLogger(__name__)

# How long a script that was asked where it is may take to answer, at least. Its process answers from a thread of its
# own, which needs Python's interpreter lock for a moment; a machine that swaps, and TensorFlow while it connects to the
# other tasks of a cluster, keep it from that for seconds.
ANSWER_S = 15.0
# The share of one core that shows that a process which does not answer is at work all the same.
_AT_WORK = 0.02
# What a run sends for others to deal with.
_REPORTS = (wire.EXAMPLES, wire.METRICS, wire.ACK, wire.REPORT, wire.EXPORT)


class NeverStarted(Exception):
    """The process ended before it took the run: nothing of the run has happened."""


@dataclasses.dataclass(frozen=True)
class RunRequest:
    """What one run is told; the runtime's config is made of it.

    Attributes:
      label: script, task, shard, window and attempt, for the log and for errors.
      message: the JSON object of the RUN frame.
      silence_s: `feed_timeout`: after so many seconds without a word from the script it is asked where it is.
    """

    label: str
    message: dict[str, Any]
    silence_s: float


class Session:
    """Runs one request on a process.

    Attributes:
      label: the run's name.
      process: where it runs.
      summary: what the DONE frame said; None while the run goes on.
      completed: whether the run ended well; only then may the process be used again.
      is_doubtful: whether the run has ended well, but probably not as it was meant to.
      failed_at: when the script raised, on this machine's clock that only goes forward; infinite until then.
    """

    def __init__(self, process: ScriptProcess, request: RunRequest):
        self.label = request.label
        self.process = process
        self.summary: dict[str, Any] | None = None
        self.completed = False
        self.failed_at = float("inf")
        self.is_doubtful = False
        self._request = request
        self._started = False
        self._heard_at = time.monotonic()
        # When the script was asked where it is, and has not said anything since; and the CPU time used by then.
        self._asked_at: float | None = None
        self._was_asked = False  # whether the frame that came last came after that
        self._cpu_s: float | None = None

    def start(self) -> None:
        """Send the request; a process that is still coming up takes it when it is up."""
        self.process.runs += 1
        self.process.label = self.label
        self.process.channel.send(wire.control_frame(wire.RUN, {**self._request.message, "label": self.label}))

    def reports(self) -> Iterator[wire.Frame]:
        """Sends the request and yields EXAMPLES and METRICS frames until the run is done.

        Raises:
          NeverStarted: the process ended before it took the run.
          ScriptLoadError, ScriptRaised, ScriptDied: the run failed.
          ProtocolError: the process sent a frame that is not due.
        """
        self.start()
        while frame := self.receive():
            yield frame

    def receive(self, timeout_s: float | None = None) -> wire.Frame | None:
        """Waits for what the run reports next.

        A process that is still coming up is waited for too. Without a timeout the wait is as long as the script
        computes, which is its own affair: it ends with the process, whose death is seen at once, or with its lease,
        which the bundle's owner ends. A long silence is looked into.

        Args:
          timeout_s: how long to wait; None for as long as it takes.

        Returns:
          An EXAMPLES, METRICS, ACK, REPORT or EXPORT frame; None when the run is done, or after the timeout.

        Raises:
          As `reports`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if self.process.ready is None:
            if not self.process.wait_ready(timeout_s):
                return None
            self._heard_at = time.monotonic()
        while self.summary is None:
            frame = self._receive(deadline)
            if frame is None or self._is_report(frame):
                return frame
        return None

    def receive_answer(self) -> wire.Frame:
        """Wait for the answer to what was asked after the run.

        Raises:
          ScriptDied: the process ended over it, or does not answer.
        """
        while True:
            frame = self._receive(None)
            if frame is not None and frame.kind in (wire.INSPECTED, wire.FAILED):
                return frame
            _LOGGER.info("%s: its process is still at what it was asked", self.label)

    def _is_report(self, frame: wire.Frame) -> bool:
        """Deals with a frame that is about the run itself."""
        if frame.kind in _REPORTS:
            return True
        if frame.kind == wire.STARTED:
            self._started = True
        elif frame.kind == wire.DONE:
            self.summary = frame.json()
            self._finish(self.summary)
            self._say_doubt(self.summary["doubt"])
        elif frame.kind == wire.FAILED:
            self.failed_at = frame.json()["at"]
            raise translate_failure(self.label, frame.json(), self.process.printed())
        elif frame.kind == wire.STACK:
            # An answer that is not waited for, as the script has said something since, is of no interest.
            if self._was_asked:
                self._on_silence(frame.json()["stack"])
        else:
            raise ProtocolError(f"{self.label}: {frame.name} is not due in a run")
        return False

    def _receive(self, deadline: float | None) -> wire.Frame | None:
        """Wait for the next frame until the deadline; whatever the deadline, a long silence is looked into."""
        try:
            while True:
                due = self._silence_due()
                until = due if deadline is None else min(due, deadline)
                frame = self.process.channel.receive(max(0.0, until - time.monotonic()))
                if frame is not None:
                    self._was_asked = self._asked_at is not None
                    self._note_word()
                    return frame
                if time.monotonic() < due:
                    return None
                self._look_into_silence()
        except ChannelClosed as error:
            if self._started:
                raise self.process.died(self.label) from error
            raise NeverStarted(self.process.describe_end()) from error
        except ProtocolError as error:
            self.process.kill()
            raise ScriptDied(
                f"{self.label}: {error}. Its process (pid {self.process.pid}) was killed, as nothing that it sends can "
                "be trusted any more.",
                returncode=self.process.returncode,
            ) from error

    def _note_word(self) -> None:
        """Start to count the silence anew."""
        self._heard_at = time.monotonic()
        self._asked_at = None

    def _silence_due(self) -> float:
        """When the silence must be looked into; never, where no word is due."""
        if not self._started:
            return self._heard_at + self.process.spec.start_timeout_s
        if not self._is_word_due:
            return float("inf")
        if self._asked_at is not None:
            return self._asked_at + self._answer_s
        return self._heard_at + self._request.silence_s

    def _look_into_silence(self) -> None:
        """Ask a silent script where it is; deal with one that was asked and has not answered."""
        if not self._started:
            raise self.process.hangs(f"{self.label} was not taken up within {self.process.spec.start_timeout_s:g} s")
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._cpu_s = cpu_seconds(self.process.pid)
            self.process.channel.send(wire.control_frame(wire.PROBE))
        else:
            self._on_no_answer()

    @property
    def _is_word_due(self) -> bool:
        """Whether the script's silence means anything: a run with all its rows at hand computes or says something."""
        return True

    @property
    def _answer_s(self) -> float:
        """How long the script may take to say where it is.

        One that computes for as long as it likes may do so in one call that lets nothing else run.
        """
        return max(ANSWER_S, self._request.silence_s) if self._has_own_pace else ANSWER_S

    @property
    def _has_own_pace(self) -> bool:
        """Whether the run computes for as long as it likes."""
        return True

    def _on_no_answer(self) -> None:
        """End a process that neither answers nor computes; one that computes is left alone, and the log says so."""
        silent_s = self._request.silence_s + self._answer_s
        used_s = cpu_seconds(self.process.pid)
        if used_s is not None and self._cpu_s is not None and used_s - self._cpu_s < _AT_WORK * self._answer_s:
            raise self.process.hangs(f"{self.label} has said nothing for {silent_s:g} s")
        _LOGGER.warning(
            "%s has said nothing for %g s and cannot say where it is: it computes inside one call that holds Python's "
            "interpreter lock",
            self.label, silent_s,
        )  # fmt: skip
        self._note_word()

    def _finish(self, summary: dict[str, Any]) -> None:
        self.completed = summary["reusable"]
        if summary["leftovers"]:
            _LOGGER.warning(
                "%s returned, but left %s behind: its process is ended and the next run gets a new one. "
                "Join what main starts before it returns.",
                self.label,
                " and ".join(summary["leftovers"]),
            )

    def _say_doubt(self, found: dict[str, Any] | None) -> None:
        """Log what the script has probably done by mistake; less loudly what may be right."""
        if found is not None:
            self.is_doubtful = found["is_doubt"]
            _LOGGER.log(logging.WARNING if self.is_doubtful else logging.INFO, "%s: %s.", self.label, found["text"])

    def _on_silence(self, stack: str) -> None:
        if self._request.message.get("is_hosted"):
            return  # a parameter server of TensorFlow's own serves the others, and has nothing to say here
        _LOGGER.warning("%s has said nothing for %g s; it is at\n%s", self.label, self._request.silence_s, stack)


__all__ = ["NeverStarted", "RunRequest", "ScriptDied", "Session"]

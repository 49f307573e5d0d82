"""One run on one process: the request out, the reports back, and the end told in full."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from typing import Any

from beam_tfscript.errors import (
    FeedError,
    ModelError,
    ProtocolError,
    ScriptDied,
    ScriptError,
    ScriptLoadError,
    ScriptRaised,
)
from beam_tfscript.runtime import wire
from beam_tfscript.worker.channel import ChannelClosed
from beam_tfscript.worker.process import ScriptProcess

_LOGGER = logging.getLogger(__name__)

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
      silence_s: after so many seconds without a word from the script, the log says where it is.
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
      failed_at: when the script raised, on this machine's clock that only goes forward; infinite until then.
    """

    def __init__(self, process: ScriptProcess, request: RunRequest):
        self.label = request.label
        self.process = process
        self.summary: dict[str, Any] | None = None
        self.completed = False
        self.failed_at = float("inf")
        self._request = request
        self._started = False
        self._probed = False
        self._heard_at = time.monotonic()

    def start(self) -> None:
        """Sends the request; a process that is still coming up takes it when it is up."""
        self.process.runs += 1
        self.process.channel.send(wire.control_frame(wire.RUN, {**self._request.message, "label": self.label}))

    def reports(self) -> Iterator[wire.Frame]:
        """Sends the request and yields EXAMPLES and METRICS frames until the run is done.

        Raises:
          NeverStarted: the process ended before it took the run.
          ScriptLoadError, ScriptRaised, ScriptDied: the run failed.
          ProtocolError: the process sent something that is not due.
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
        """Waits for the answer to what was asked after the run.

        Raises:
          ScriptDied: the process ended over it.
        """
        try:
            while True:
                frame = self.process.channel.receive(self._silence_s())
                if frame is not None and frame.kind in (wire.INSPECTED, wire.FAILED):
                    return frame
                _LOGGER.info("%s: its process is still at what it was asked", self.label)
        except ChannelClosed as error:
            raise self.process.died(self.label) from error

    def _is_report(self, frame: wire.Frame) -> bool:
        """Deals with a frame that is about the run itself."""
        if frame.kind in _REPORTS:
            return True
        if frame.kind == wire.STARTED:
            self._started = True
        elif frame.kind == wire.DONE:
            self.summary = frame.json()
            self._finish(self.summary)
        elif frame.kind == wire.FAILED:
            self.failed_at = frame.json()["at"]
            raise translate_failure(self.label, frame.json())
        elif frame.kind == wire.STACK:
            # An answer that the run before did not wait for is of no interest here.
            if self._probed:
                self._on_silence(frame.json()["stack"])
        else:
            raise ProtocolError(f"{self.label}: {frame.name} is not due in a run")
        return False

    def _receive(self, deadline: float | None) -> wire.Frame | None:
        """Waits for the next frame until the deadline; whatever the deadline, a long silence is looked into."""
        try:
            while True:
                silence_s = self._silence_s()
                until = self._heard_at + silence_s
                frame = self.process.channel.receive(max(0.0, min(until, deadline or until) - time.monotonic()))
                if frame is not None:
                    self._heard_at = time.monotonic()
                    return frame
                if time.monotonic() < until:
                    return None
                self._heard_at = time.monotonic()
                if not self._started:
                    raise self.process.died(f"{self.label} was not taken up within {silence_s:g} s")
                self._probed = True
                self.process.channel.send(wire.control_frame(wire.PROBE))
        except ChannelClosed as error:
            if self._started:
                raise self.process.died(self.label) from error
            raise NeverStarted(self.process.describe_end()) from error

    def _silence_s(self) -> float:
        return self._request.silence_s if self._started else self.process.spec.start_timeout_s

    def _finish(self, summary: dict[str, Any]) -> None:
        self.completed = summary["reusable"]
        if summary["leftovers"]:
            _LOGGER.warning(
                "%s returned, but left %s behind: its process is ended and the next run gets a new one. "
                "Join what main starts before it returns.",
                self.label,
                " and ".join(summary["leftovers"]),
            )

    def _on_silence(self, stack: str) -> None:
        if self._request.message.get("is_hosted"):
            return  # a parameter server of TensorFlow's own serves the others, and has nothing to say here
        _LOGGER.warning("%s has said nothing for %g s; it is at\n%s", self.label, self._request.silence_s, stack)


def translate_failure(label: str, failure: dict[str, Any]) -> ScriptError:
    """The error that a FAILED frame speaks of."""
    text = failure["traceback"].rstrip()
    if failure["type"] == "SystemExit":
        return ScriptRaised(
            f"{label}: the script called sys.exit({failure['message']}), at\n{text}\n"
            "A script that is done returns from main; one that cannot go on raises an error that says why."
        )
    if failure["phase"] == "load":
        hint = ""
        if failure["type"] == "ModuleNotFoundError":
            hint = f"\nIt runs in {failure['python']}: install the module there, or add its file to user_files."
        elif failure["type"] == "ImportError":
            hint = f"\nIt runs in {failure['python']}."
        return ScriptLoadError(f"{label}: the script cannot be loaded:\n{text}{hint}")
    if failure["phase"] == "model":
        return ModelError(f"{label}: {failure['message']}")
    if failure["phase"] == "feed":
        return FeedError(f"{label}: {failure['message']} It is at\n{text}")
    return ScriptRaised(f"{label}: the script raised {failure['type']}:\n{text}")


__all__ = ["NeverStarted", "RunRequest", "ScriptDied", "Session"]

"""One run on one process: the request out, the reports back, and the end told in full."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

from beam_tfscript.errors import ProtocolError, ScriptDied, ScriptError, ScriptLoadError, ScriptRaised
from beam_tfscript.runtime import wire
from beam_tfscript.worker.channel import ChannelClosed
from beam_tfscript.worker.process import ScriptProcess

_LOGGER = logging.getLogger(__name__)


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
    """Runs one request on a process that is ready.

    Attributes:
      completed: whether the run ended well; only then may the process be used again.
    """

    def __init__(self, process: ScriptProcess, request: RunRequest):
        self._process = process
        self._request = request
        self._started = False
        self._probed = False
        self.completed = False

    def reports(self) -> Iterator[wire.Frame]:
        """Sends the request and yields EXAMPLES and METRICS frames until the run is done.

        Raises:
          NeverStarted: the process ended before it took the run.
          ScriptLoadError, ScriptRaised, ScriptDied: the run failed.
          ProtocolError: the process sent something that is not due.
        """
        process, request = self._process, self._request
        process.runs += 1
        process.channel.send(wire.control_frame(wire.RUN, {**request.message, "label": request.label}))
        while True:
            frame = self._receive()
            if frame.kind in (wire.EXAMPLES, wire.METRICS):
                yield frame
            elif frame.kind == wire.STARTED:
                self._started = True
            elif frame.kind == wire.DONE:
                self._finish(frame.json())
                return
            elif frame.kind == wire.FAILED:
                raise _translate_failure(request.label, frame.json())
            elif frame.kind == wire.STACK:
                # An answer that the run before did not wait for is of no interest here.
                if self._probed:
                    self._log_silence(frame.json()["stack"])
            else:
                raise ProtocolError(f"{request.label}: {frame.name} is not due in a run")

    def _receive(self) -> wire.Frame:
        """Waits for the next frame; a long silence is looked into, and never ends the wait by itself.

        How long a run may compute is the script's affair. The wait ends with the process, which is
        seen at once, or with its lease, which the bundle's owner ends.
        """
        try:
            while True:
                frame = self._process.channel.receive(self._silence_s())
                if frame is not None:
                    return frame
                if not self._started:
                    raise self._process.died(f"{self._request.label} was not taken up within {self._silence_s():g} s")
                self._probed = True
                self._process.channel.send(wire.control_frame(wire.PROBE))
        except ChannelClosed as error:
            if self._started:
                raise self._process.died(self._request.label) from error
            raise NeverStarted(self._process.describe_end()) from error

    def _silence_s(self) -> float:
        return self._request.silence_s if self._started else self._process.spec.start_timeout_s

    def _finish(self, summary: dict[str, Any]) -> None:
        self.completed = not summary["leftovers"]
        if not self.completed:
            _LOGGER.warning(
                "%s returned, but left %s behind: its process is ended and the next run gets a new one. "
                "Join what main starts before it returns.",
                self._request.label,
                " and ".join(summary["leftovers"]),
            )

    def _log_silence(self, stack: str) -> None:
        _LOGGER.warning(
            "%s has said nothing for %g s; it is at\n%s", self._request.label, self._request.silence_s, stack
        )


def _translate_failure(label: str, failure: dict[str, Any]) -> ScriptError:
    text = failure["traceback"].rstrip()
    if failure["type"] == "SystemExit":
        return ScriptRaised(
            f"{label}: the script called sys.exit({failure['message']}), at\n{text}\n"
            "A script that is done returns from main; one that cannot go on raises an error that says why."
        )
    if failure["phase"] == "load":
        hint = ""
        if failure["type"] in ("ModuleNotFoundError", "ImportError"):
            hint = f"\nIt runs in {failure['python']}: install the module there, or add its file to user_files."
        return ScriptLoadError(f"{label}: the script cannot be loaded:\n{text}{hint}")
    return ScriptRaised(f"{label}: the script raised {failure['type']}:\n{text}")


__all__ = ["NeverStarted", "RunRequest", "ScriptDied", "Session"]

"""The tasks of one cluster, once through: all started, heard together, and ended when its work is done or one dies."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.errors import ScriptDied, ScriptEnvironmentError, ScriptError, ScriptRaised
from beam_tfscript.feeds.failures import translate_failure
from beam_tfscript.feeds.session import NeverStarted, RunRequest, Session
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.multiplex import wait_any

_LOGGER = logging.getLogger(__name__)

# How long to wait at a time; silence is looked into between two waits.
_WAIT_S = 1.0
# When a task dies, others fail for want of it, and may be heard before it: so long it is looked who was first.
_CAUSE_S = 3.0


class TaskGroup:
    """One generation of a cluster.

    Args:
      staged: the script.
      tasks: who they are, the chief first.
      grace_s: how long the others may go on when the chief is done.
      must_end: whether it is an error if they go on for longer.
    """

    def __init__(self, staged: StagedScript, tasks: Sequence[Task], *, grace_s: float, must_end: bool):
        self._pool = staged.pool
        self._tasks = tasks
        self._grace_s = grace_s
        self._sessions: dict[Task, Session] = {}
        self._must_end = must_end
        # Of two clusters of a transform in one harness, one waits for the other.
        self._processes = (
            staged.pool.acquire_all(staged.spec, len(tasks), limit=len(tasks), owner=self, unused=True) or []
        )

    def run(self, make_request: Callable[[Task], RunRequest]) -> Iterator[wire.Frame]:
        """Starts every task and yields what they report, until the work is done.

        The chief's end is the end of the work: workers and evaluators get some time, with the parameter servers that
        they may still ask, which end at once after them.

        Args:
          make_request: what a task is told.

        Raises:
          ScriptError: a task failed; the message names it, and the others are ended.
        """
        for task, process in zip(self._tasks, self._processes):
            self._sessions[task] = Session(process, make_request(task))
            self._sessions[task].start()
        chief = self._sessions[self._tasks[0]]
        deadline = float("inf")
        while self._running() and time.monotonic() < deadline:
            yield from self._hear_all()
            if chief.summary is not None and deadline == float("inf"):
                deadline = time.monotonic() + self._grace_s
                self._release_workers()
            if self._running():
                wait_s = max(0.0, min(_WAIT_S, deadline - time.monotonic()))
                wait_any([session.process.channel for session in self._heard()], wait_s)
        for session in self._running():
            self._cut_off(session)
        for task, session in self._sessions.items():
            if task.type == "ps":
                session.process.kill()  # it holds no result

    def inspect(self, directory: str) -> dict[str, Any]:
        """Has the chief look at the SavedModel it exported.

        Args:
          directory: where it was to be exported to.

        Returns:
          `path` of the model, and its `signatures`.

        Raises:
          ModelError: there is none, or it cannot be loaded.
          ScriptDied: the process died over it.
        """
        chief = self._sessions[self._tasks[0]]
        chief.process.channel.send(wire.control_frame(wire.INSPECT, directory))
        frame = chief.receive_answer()
        if frame.kind == wire.FAILED:
            raise translate_failure(chief.label, frame.json(), chief.process.printed())
        return frame.json()

    def close(self) -> None:
        """Ends what is left of the cluster."""
        for process in self._processes:
            self._pool.release(process, keep=False)

    def _running(self) -> list[Session]:
        """Those whose end is waited for."""
        return [session for task, session in self._sessions.items() if session.summary is None and task.type != "ps"]

    def _hear_all(self) -> Iterator[wire.Frame]:
        for session in self._heard():
            try:
                while frame := session.receive(0.0):
                    yield frame
            except (ScriptError, NeverStarted, ScriptEnvironmentError) as error:
                raise find_cause(session, error, self._heard()) from error

    def _release_workers(self) -> None:
        """Tells the tasks that only serve the chief that they are done."""
        for session in self._running():
            session.process.channel.send(wire.control_frame(wire.END_FEED))

    def _cut_off(self, session: Session) -> None:
        """Deals with a task that has not ended in the time it was given."""
        if self._must_end:
            raise late_error(session, self._grace_s)
        _LOGGER.warning(
            "%s has not ended %g s after the chief was done (cluster_grace), and is ended", session.label, self._grace_s
        )

    def _heard(self) -> list[Session]:
        """Those that something may come from; one that is done may have ended its process, too."""
        return [session for session in self._sessions.values() if session.summary is None]


def late_error(session: Session, grace_s: float) -> ScriptError:
    """The error for a task that goes on for too long behind the chief's end."""
    return ScriptError(
        f"{session.label} has not ended {grace_s:g} s after the chief was done (cluster_grace): what it would still "
        "write is lost. Give it longer, or have the chief wait."
    )


def find_cause(session: Session, error: Exception, others: Sequence[Session]) -> Exception:
    """The error of the task that failed first, of the errors of all that failed with it.

    Args:
      session: the task that was heard to fail.
      error: its error.
      others: the tasks that may be heard from.
    """
    cause, first = _as_script_error(session, error), session
    deadline = time.monotonic() + _CAUSE_S
    silent = [other for other in others if other is not session]
    while isinstance(cause, ScriptRaised) and silent and (remaining := deadline - time.monotonic()) > 0:
        wait_any([other.process.channel for other in silent], remaining)
        for other in list(silent):
            try:
                while other.receive(0.0):
                    pass  # of a generation that is over
                if other.summary is not None:
                    silent.remove(other)
            except (ScriptDied, NeverStarted) as died:
                if other.process.returncode != -signal.SIGABRT:
                    return _as_script_error(other, died)
                silent.remove(other)  # TensorFlow aborts where it has lost another
            except (ScriptError, ScriptEnvironmentError) as failed:
                silent.remove(other)
                if other.failed_at < first.failed_at:
                    cause, first = _as_script_error(other, failed), other
    return cause


def _as_script_error(session: Session, error: Exception) -> Exception:
    """The same error, with the task's name."""
    if isinstance(error, NeverStarted):
        return session.process.died(session.label)
    if isinstance(error, ScriptDied) and session.process.ready is None:
        return ScriptDied(f"{session.label}: {error}", returncode=error.returncode)
    if isinstance(error, ScriptEnvironmentError):
        return ScriptEnvironmentError(f"{session.label}: {error}")
    return error

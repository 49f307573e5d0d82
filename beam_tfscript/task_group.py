"""The tasks of one cluster, once through: all started, heard together, and ended when its work is done or one dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.errors import ScriptDied, ScriptEnvironmentError, ScriptError, ScriptRaised
from beam_tfscript.runtime import wire
from beam_tfscript.worker.multiplex import wait_any
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process import ProcessSpec
from beam_tfscript.worker.session import NeverStarted, RunRequest, Session, translate_failure

_LOGGER = logging.getLogger(__name__)

# How long to wait at a time; silence is looked into between two waits.
_WAIT_S = 1.0
# When a task dies, others fail for want of it, and may be heard before it: so long it is looked who was first.
_CAUSE_S = 3.0


class TaskGroup:
    """One generation of a cluster.

    Args:
      pool: where the processes are leased.
      spec: what processes.
      tasks: who they are, the chief first.
      grace_s: how long the others may go on when the chief is done.
    """

    def __init__(self, pool: ProcessPool, spec: ProcessSpec, tasks: Sequence[Task], *, grace_s: float):
        self._pool = pool
        self._tasks = tasks
        self._grace_s = grace_s
        self._sessions: dict[Task, Session] = {}
        self._has_servers = True
        self._processes = pool.acquire_all(spec, len(tasks), owner=self)

    def run(self, make_request: Callable[[Task], RunRequest]) -> Iterator[wire.Frame]:
        """Starts every task and yields what they report, until the work is done.

        The chief's end is the end of the work: workers and evaluators get some time, parameter servers end at once.

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
                self._end_servers()
            running = self._running()
            if running:
                wait_any([session.process.channel for session in self._heard()], min(_WAIT_S, self._grace_s or _WAIT_S))
        for task, session in self._sessions.items():
            if session.summary is None and task.type != "ps":
                _LOGGER.warning(
                    "%s has not ended %g s after the chief was done, and is ended", session.label, self._grace_s
                )

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
            raise translate_failure(chief.label, frame.json())
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
                raise self._find_cause(session, error) from error

    def _find_cause(self, session: Session, error: Exception) -> Exception:
        """The error of the task that died, of the errors of all that failed with it."""
        cause = _as_script_error(session, error)
        deadline = time.monotonic() + _CAUSE_S
        silent = [other for other in self._heard() if other is not session and other.summary is None]
        while isinstance(cause, ScriptRaised) and silent and (remaining := deadline - time.monotonic()) > 0:
            wait_any([other.process.channel for other in silent], remaining)
            for other in list(silent):
                try:
                    while other.receive(0.0):
                        pass  # of a generation that is over
                except (ScriptDied, NeverStarted) as died:
                    return _as_script_error(other, died)
                except (ScriptError, ScriptEnvironmentError):
                    silent.remove(other)  # for the same want
        return cause

    def _end_servers(self) -> None:
        """Parameter servers hold no result; tasks that only serve hear that they are done."""
        for task, session in self._sessions.items():
            if task.type == "ps":
                session.process.kill()
            elif session.summary is None:
                session.process.channel.send(wire.control_frame(wire.END_FEED))
        self._has_servers = False

    def _heard(self) -> list[Session]:
        """The sessions of the tasks that are there to be heard."""
        return [session for task, session in self._sessions.items() if self._has_servers or task.type != "ps"]


def _as_script_error(session: Session, error: Exception) -> Exception:
    return session.process.died(session.label) if isinstance(error, NeverStarted) else error

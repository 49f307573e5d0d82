"""The runs of one attempt, heard together: all tasks of a cluster, or one run alone; the first failure is the error."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.errors import ScriptDied, ScriptEnvironmentError, ScriptError, ScriptRaised
from beam_tfscript.feeds.failures import IdleProcessDied
from beam_tfscript.feeds.run import Run
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.multiplex import wait_any

# Longest wait for a frame: a silent script is looked into between two waits.
WAIT_S = 1.0
# Peers of a dead task may fail first, and be heard before the task. Wait this long for the root failure.
_ROOT_CAUSE_S = 3.0


class RunGroup:
    """Runs of one attempt, by task, the chief first."""

    def __init__(self) -> None:
        self._runs: dict[Task, Run] = {}

    def add(self, task: Task, run: Run) -> None:
        """Add the run of a task; the first one is the chief's."""
        self._runs[task] = run

    @property
    def chief(self) -> Run:
        """The chief's run, or the one run that there is."""
        return next(iter(self._runs.values()))

    @property
    def servers(self) -> list[Run]:
        """Runs of parameter servers, which have no rows and no end of their own."""
        return [run for task, run in self._runs.items() if task.type == "ps"]

    @property
    def servers_unfinished(self) -> list[Run]:
        """Runs of parameter servers that frames may come from."""
        return [run for run in self.servers if not run.is_over]

    @property
    def unfinished(self) -> list[Run]:
        """Runs that frames may come from; the process of a run that is over may have ended."""
        return [run for run in self._runs.values() if not run.is_over]

    @property
    def workers_unfinished(self) -> list[Run]:
        """Runs whose end is waited for: all but those of parameter servers."""
        return [run for task, run in self._runs.items() if task.type != "ps" and not run.is_over]

    def wait(self, timeout_s: float = WAIT_S) -> None:
        """Wait until a process has sent something, or has ended."""
        wait_any([run.process.channel for run in self.unfinished], timeout_s)

    def hear(self, run: Run, frames: Iterable[wire.Frame]) -> Iterator[wire.Frame]:
        """Yield frames of one run, and find the root cause where the run fails.

        Args:
          run: one of the group.
          frames: received from the run.

        Raises:
          ScriptError, ScriptEnvironmentError: the error of the task that failed first, which the message names.
          IdleProcessDied: the process, which earlier runs had used, ended before it took the run.
        """
        try:
            yield from frames
        except IdleProcessDied:
            raise
        except (ScriptError, ScriptEnvironmentError) as error:
            cause = _find_root_cause(run, error, self.unfinished)
            if cause is error:
                raise
            raise cause from error

    def check_grace(self, deadline: float, grace_s: float) -> None:
        """Raise the error for a task that goes on for too long after the chief's end.

        Args:
          deadline: on this machine's monotonic clock.
          grace_s: for the message.

        Raises:
          ScriptError: a task goes on after the deadline.
        """
        late = self.workers_unfinished
        if late and time.monotonic() >= deadline:
            raise ScriptError(
                f"{late[0].label} has not ended {grace_s:g} s after the chief was done (cluster_grace): rows that it "
                "would still write are lost. Give a larger cluster_grace, or let the chief wait for the workers."
            )


def _find_root_cause(run: Run, error: Exception, unfinished: Sequence[Run]) -> Exception:
    """Return the error of the task that failed first.

    Args:
      run: the task that was heard to fail.
      error: its error.
      unfinished: the tasks that may be heard from.
    """
    cause, first = _named(run, error), run
    deadline = time.monotonic() + _ROOT_CAUSE_S
    peers = [peer for peer in unfinished if peer is not run]
    while isinstance(cause, ScriptRaised) and peers and (remaining := deadline - time.monotonic()) > 0:
        wait_any([peer.process.channel for peer in peers], remaining)
        for peer in list(peers):
            try:
                while peer.receive(0.0):
                    pass  # a frame of an attempt that has failed
                if peer.is_over:
                    peers.remove(peer)
            except ScriptDied as died:
                if peer.process.returncode != -signal.SIGABRT:
                    return _named(peer, died)
                peers.remove(peer)  # TensorFlow aborts where it has lost a peer
            except (ScriptError, ScriptEnvironmentError) as failed:
                peers.remove(peer)
                if peer.failed_at < first.failed_at:
                    cause, first = _named(peer, failed), peer
    return cause


def _named(run: Run, error: Exception) -> Exception:
    """Return the same error with the task's name, which errors of a start do not have."""
    if isinstance(error, ScriptDied) and run.process.ready is None:
        return ScriptDied(f"{run.label}: {error}", returncode=error.returncode)
    if isinstance(error, ScriptEnvironmentError):
        return ScriptEnvironmentError(f"{run.label}: {error}")
    return error


__all__ = ["WAIT_S", "RunGroup"]

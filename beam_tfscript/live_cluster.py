"""A cluster whose workers are fed while they run: the `stream` feed's run where it has several tasks."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Hashable, Iterator, Sequence

from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.errors import ScriptEnvironmentError, ScriptError
from beam_tfscript.runtime import wire
from beam_tfscript.task_group import find_cause
from beam_tfscript.worker.live_run import LiveRun
from beam_tfscript.worker.multiplex import wait_any
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.session import NeverStarted, RunRequest, Session

# How long to wait at a time; silence is looked into between two waits.
_WAIT_S = 1.0


class LiveCluster:
    """All tasks of a (cluster, window), to those who feed it what `LiveRun` is for one: each chunk goes to its shard.

    Args:
      key: the transform's.
      grace_s: how long the other tasks may go on when the chief is done.

    Attributes:
      serves, turn, used_at: as of a `LiveRun`.
    """

    def __init__(self, key: str, *, grace_s: float):
        self.key = key
        self.serves: Hashable = None
        self.turn = 0
        self.used_at = time.monotonic()
        self._grace_s = grace_s
        self._members: dict[Task, LiveRun] = {}
        self._servers: dict[Task, Session] = {}
        self._processes: list[ScriptProcess] = []
        self._directory: str | None = None
        self._ports: HeldPorts | None = None

    def start(
        self,
        tasks: Sequence[Task],
        processes: list[ScriptProcess],
        make_request: Callable[[Task], RunRequest],
        directory: str,
        ports: HeldPorts,
    ) -> None:
        """Starts every task on its process, which may still be coming up.

        Args:
          tasks: who they are, the chief first.
          processes: one for each, leased by this cluster.
          make_request: what a task is told.
          directory: the cluster's own, removed by `release`.
          ports: held until then.
        """
        self._processes, self._directory, self._ports = processes, directory, ports
        for task, process in zip(tasks, processes):
            request = make_request(task)
            if task.type == "ps":
                self._servers[task] = Session(process, request)
                self._servers[task].start()
            else:
                self._members[task] = LiveRun(self.key)
                self._members[task].start(process, request, directory)

    def release(self, pool: ProcessPool) -> None:
        """Ends all tasks."""
        for process in self._processes:
            pool.release(process, keep=False)
        if self._ports is not None:
            self._ports.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def explain(self, error: ScriptError | NeverStarted) -> ScriptError:
        """What an error of this cluster says to people; it names the task already."""
        assert isinstance(error, ScriptError)
        return error

    @property
    def sent(self) -> int:
        """Rows that were sent to the tasks."""
        return sum(member.sent for member in self._members.values())

    @property
    def acked(self) -> int:
        """How many of them are done."""
        return sum(member.acked for member in self._members.values())

    @property
    def unacked(self) -> int:
        """Rows that were sent and are not done."""
        return self.sent - self.acked

    @property
    def unread(self) -> int:
        """Rows that tasks which have asked for the end of their feed have not read."""
        return sum(member.unread for member in self._members.values() if member.is_done)

    @property
    def has_stopped(self) -> bool:
        """Whether the chief has asked for the end of the feed."""
        return self._chief.has_stopped

    @property
    def is_done(self) -> bool:
        """Whether `main` has returned on all tasks."""
        return all(member.is_done for member in self._members.values())

    @property
    def may_give_more(self) -> bool:
        """Whether outputs may come without more rows."""
        return any(member.may_give_more for member in self._members.values())

    def feed(self, shard: int, count: int, payload: bytes) -> Iterator[wire.Frame]:
        """Sends rows to their task, once there is room for them; yields what all tasks give meanwhile.

        Raises:
          ScriptError: a task failed; the message names it.
        """
        member = next(member for task, member in self._members.items() if task.shard == shard)
        while not member.session.has_room and not member.is_done:
            self._wait()
            yield from self.collect()
        yield from self._heard(member.session, member.feed(shard, count, payload))
        yield from self.collect()

    def collect(self) -> Iterator[wire.Frame]:
        """Yields what the tasks have given, without waiting.

        Raises:
          ScriptError: a task failed; the message names it.
        """
        for member in self._members.values():
            yield from self._heard(member.session, member.collect())
        for session in self._servers.values():
            yield from self._heard(session, iter(functools.partial(session.receive, 0.0), None))

    def finish(self) -> Iterator[wire.Frame]:
        """Ends the feeds and yields all that comes until `main` has returned on all tasks.

        Raises:
          ScriptError: a task failed; the message names it.
        """
        for member in self._members.values():
            member.session.end_feed()
        deadline = float("inf")
        while not self.is_done:
            self._wait()
            yield from self.collect()
            if self._chief.is_done:
                deadline = min(deadline, time.monotonic() + self._grace_s)
            if time.monotonic() > deadline and not self.is_done:
                late = [member.session.label for member in self._members.values() if not member.is_done]
                raise ScriptError(
                    f"{late[0]} has not ended {self._grace_s:g} s after the chief was done (cluster_grace): what it "
                    "would still write is lost. Give it longer, or have the chief wait."
                )

    @property
    def _chief(self) -> LiveRun:
        return next(iter(self._members.values()))

    def _sessions(self) -> list[Session]:
        return [*(member.session for member in self._members.values()), *self._servers.values()]

    def _wait(self) -> None:
        wait_any([session.process.channel for session in self._sessions() if session.summary is None], _WAIT_S)

    def _heard(self, session: Session, frames: Iterator[wire.Frame]) -> Iterator[wire.Frame]:
        """The frames of one task; its failure with the name of the task that failed first."""
        try:
            yield from frames
        except (ScriptError, NeverStarted, ScriptEnvironmentError) as error:
            others = [other for other in self._sessions() if other is not session and other.summary is None]
            raise find_cause(session, error, others) from error

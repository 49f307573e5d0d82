"""A run of the `stream` feed: one process, or a cluster of them, fed while it goes on from bundle to bundle."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.errors import ScriptEnvironmentError, ScriptError
from beam_tfscript.feeds.live_session import LiveSession
from beam_tfscript.feeds.row_backlog import PackedRows
from beam_tfscript.feeds.session import NeverStarted, RunRequest, Session
from beam_tfscript.feeds.task_group import find_cause, late_error
from beam_tfscript.runtime.transport import scratch, wire
from beam_tfscript.worker.multiplex import wait_any
from beam_tfscript.worker.process import ScriptProcess

# How long to wait at a time; a silent script is looked into between two waits.
_WAIT_S = 1.0
# How long rows may take to be on their way before a bundle ends. A script's process takes them in from a thread of its
# own; only one that is stopped does not.
_FLUSH_S = 2.0


class LiveRun:
    """All tasks of a run, to those who feed it; owns the leases of its processes.

    Args:
      key: the transform's.
      grace_s: how long the other tasks may go on when the chief is done.
      keeps_process: whether other runs may have its process before and after it.

    Attributes:
      keeps_process: as given; not of a training or a cluster.
      rows: the (stage, shard, window) whose rows it is fed.
      turn: how many bundles have dealt with it. A state with another number is from before, or after, what this run
        has seen.
      used_at: when a bundle last dealt with it.
    """

    def __init__(self, key: str, *, grace_s: float = 0.0, keeps_process: bool = False):
        self.key = key
        self.rows: Hashable = None
        self.turn = 0
        self.used_at = time.monotonic()
        self._grace_s = grace_s
        self.keeps_process = keeps_process
        self._members: dict[Task, LiveSession] = {}  # those that may be fed, the chief first
        self._servers: list[Session] = []
        self._processes: list[ScriptProcess] = []
        self._owned = contextlib.ExitStack()

    def lease(self, processes: Sequence[ScriptProcess]) -> None:
        """Take over the processes: `release` gives them back."""
        self._processes += processes

    def own(self, close: Callable[[], Any]) -> None:
        """Have something closed by `release`."""
        self._owned.callback(close)

    def start(self, tasks: Sequence[Task], make_request: Callable[[Task], RunRequest], directory: str) -> None:
        """Start every task on its process, which may still be coming up.

        Args:
          tasks: the run's tasks, the chief first, in the order of the processes.
          make_request: what a task is told.
          directory: the run's own, removed by `release`.
        """
        self._owned.callback(scratch.remove_tree, directory)  # the script may have copied what is read-only
        for task, process in zip(tasks, self._processes):
            request = make_request(task)
            if task.type == "ps":
                self._servers.append(Session(process, request))
                self._servers[-1].start()
            else:
                self._members[task] = LiveSession(process, request, directory)

    def release(self, pool: Any) -> None:
        """Give the processes back to the pool: to be used again, if the run has ended well."""
        for member in self._members.values():
            member.close()
        for process in self._processes:
            is_whole = self.keeps_process and all(member.session.completed for member in self._members.values())
            pool.release(process, keep=is_whole)
        self._processes = []
        self._owned.close()

    def acked(self) -> dict[int, int]:
        """How many rows of each shard are done, and their outputs given out."""
        return {task.shard: member.acked for task, member in self._members.items() if task.shard is not None}

    @property
    def unread(self) -> int:
        """Rows that tasks which have asked for the end of their feed have not read."""
        return sum(member.unread for member in self._members.values() if member.is_done)

    @property
    def num_doubtful(self) -> int:
        """Tasks that have ended well, but probably not as they were meant to."""
        return sum(member.session.is_doubtful for member in self._members.values())

    @property
    def has_stopped(self) -> bool:
        """Whether the chief has asked for the end of the feed."""
        summary = self._chief.session.summary
        return summary is not None and summary["stopped"]

    @property
    def is_done(self) -> bool:
        """Whether `main` has returned on all tasks."""
        return all(member.is_done for member in self._members.values())

    @property
    def may_give_more(self) -> bool:
        """Whether outputs may come without more rows."""
        return any(member.may_give_more for member in self._members.values())

    def feed(self, shard: int, count: int, payload: bytes) -> Iterator[wire.Frame]:
        """Give rows to their task; yields what all tasks give meanwhile.

        Waits for room, so that a slow script slows the runner down, as long as no task waits for rows. Where one does,
        its rows may be behind these, and tasks that go in step would wait for each other for ever: then these rows
        wait in the task's backlog.

        Raises:
          ScriptError: a task failed, or does not read; the message names it.
        """
        fed = {task.shard: member for task, member in self._members.items() if task.shard is not None}
        fed[shard].put(PackedRows(count, payload))
        yield from self.collect()
        while fed[shard].has_backlog and not any(member.is_starving for member in fed.values()):
            self._wait()
            yield from self.collect()

    def collect(self) -> Iterator[wire.Frame]:
        """Yield what the tasks have given, without waiting; send rows that have waited for room.

        Raises:
          ScriptError: a task failed; the message names it.
          NeverStarted: the process, which other runs had before, ended before it took this one.
        """
        for task, member in self._members.items():
            member.pump()
            for frame in self._heard(member.session, member.receive()):
                yield self._with_lengths(frame, task) if frame.kind == wire.EXPORT else frame
        for session in self._servers:
            yield from self._heard(session, iter(functools.partial(session.receive, 0.0), None))

    def flush(self) -> None:
        """See that rows are on their way: nobody sends them between two bundles."""
        for member in self._members.values():
            member.session.process.channel.flush(_FLUSH_S)

    def finish(self) -> Iterator[wire.Frame]:
        """End the feeds and yield all that comes until `main` has returned on all tasks.

        Raises:
          ScriptError: a task failed; the message names it.
        """
        for member in self._members.values():
            member.end_feed()
        deadline = float("inf")
        yield from self.collect()
        while not self.is_done:
            self._wait()
            yield from self.collect()
            if self._chief.is_done:
                deadline = min(deadline, time.monotonic() + self._grace_s)
            if time.monotonic() > deadline and not self.is_done:
                late = next(member for member in self._members.values() if not member.is_done)
                raise late_error(late.session, self._grace_s)

    def _with_lengths(self, frame: wire.Frame, exporter: Task) -> wire.Frame:
        """An EXPORT frame with the rows of each worker that the model has seen, or may have seen."""
        exported = frame.json()
        acked = self.acked()
        lengths = [exported["rows"] if exporter.shard == shard else acked[shard] for shard in sorted(acked)]
        return wire.control_frame(wire.EXPORT, {**exported, "dataset_lengths": lengths})

    @property
    def _chief(self) -> LiveSession:
        return next(iter(self._members.values()))

    def _sessions(self) -> list[Session]:
        return [*(member.session for member in self._members.values()), *self._servers]

    def _wait(self) -> None:
        wait_any([session.process.channel for session in self._sessions() if session.summary is None], _WAIT_S)

    def _heard(self, session: Session, frames: Iterator[wire.Frame]) -> Iterator[wire.Frame]:
        """The frames of one task; its failure as the error of the task that failed first."""
        try:
            yield from frames
        except (ScriptError, NeverStarted, ScriptEnvironmentError) as error:
            if isinstance(error, NeverStarted) and session.process.runs > 1:
                raise  # a process that other runs had before
            others = [other for other in self._sessions() if other is not session and other.summary is None]
            cause = find_cause(session, error, others)
            if cause is error:
                raise
            raise cause from error

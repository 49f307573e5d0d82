"""The tasks of one machine in an attempt of a cluster: started, heard together, ended with the chief or a failure."""

from __future__ import annotations

import collections
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.feeds.failures import translate_failure
from beam_tfscript.feeds.peers import Peers, Report
from beam_tfscript.feeds.run import Run, RunRequest
from beam_tfscript.feeds.run_group import WAIT_S, RunGroup
from beam_tfscript.feeds.run_requests import task_spec
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.runtime.config.train_config import MAX_REPORTS
from beam_tfscript.runtime.transport import wire

_LOGGER = logging.getLogger(__name__)


class TaskGroup:
    """The tasks on this machine, in one attempt of a cluster.

    Args:
      staged: the script.
      tasks: the tasks, in the order of the cluster.
      peers: the tasks on other machines.
      grace_s: seconds that the other tasks may go on after the chief's end.
      must_end: True if it is an error that they go on for longer.

    Attributes:
      reports: those of a training's tasks on all machines, in order, once the work is done.
    """

    def __init__(self, staged: StagedScript, tasks: Sequence[Task], peers: Peers, *, grace_s: float, must_end: bool):
        self.reports: list[Report] = []
        self._pool = staged.pool
        self._tasks = tasks
        self._peers = peers
        self._grace_s = grace_s
        self._must_end = must_end
        self._has_chief = tasks[0].type == "chief"
        self._group = RunGroup()
        # The limit is the size of one cluster: of two clusters of a transform in one harness, one waits for the other.
        # Several shares of one cluster may be in one harness, and must not wait for each other.
        assert staged.options.cluster is not None
        self._processes = (
            staged.pool.acquire_all(
                [task_spec(staged.spec, task) for task in tasks],
                limit=staged.options.cluster.counts.total,
                owner=self,
                unused=True,
            )
            or []
        )

    def run(self, make_request: Callable[[Task], RunRequest]) -> Iterator[wire.Frame]:
        """Start every task and yield their frames until the work is done, on all machines.

        The chief's end is the end of the work. Workers and evaluators have some time after it. So have the parameter
        servers that they may still ask, which end right after them.

        Args:
          make_request: makes the request of a task.

        Raises:
          ScriptError: a task failed; the message names it, and the other tasks are ended.
          PeerFailed: a task on another machine failed.
        """
        group = self._group
        for task, process in zip(self._tasks, self._processes):
            run = Run(process, make_request(task))
            group.add(task, run)
            run.start()
        reports: collections.deque[Report] = collections.deque(maxlen=MAX_REPORTS)
        yield from _noting_reports(self._run_workers(), reports)
        self._peers.note_end(reports)
        # Servers go on until the workers on all machines have ended.
        yield from self._hear_until(lambda: self._peers.all_have_ended, runs=lambda: group.servers_unfinished)
        for server in group.servers:
            server.process.kill()  # it holds no result
        self.reports = sorted([*reports, *self._peers.reports], key=lambda report: report[0])[-MAX_REPORTS:]

    def _run_workers(self) -> Iterator[wire.Frame]:
        """Yield frames until all tasks here but parameter servers have ended, or have had their time."""
        group = self._group
        yield from self._hear_until(lambda: self._chief_is_over or not group.workers_unfinished)
        if self._chief_is_over:
            if self._has_chief:
                self._peers.note_chief_end()
            deadline = time.monotonic() + self._grace_s
            self._release_workers()
            yield from self._hear_until(lambda: not group.workers_unfinished, deadline)
            self._cut_off()

    @property
    def _chief_is_over(self) -> bool:
        return self._group.chief.is_over if self._has_chief else self._peers.chief_has_ended

    def _hear_until(
        self,
        is_done: Callable[[], bool],
        deadline: float = float("inf"),
        runs: Callable[[], list[Run]] | None = None,
    ) -> Iterator[wire.Frame]:
        """Yield frames of unfinished runs, or of those that are given, until something is true or the time is up."""
        group = self._group
        while True:
            for run in group.unfinished if runs is None else runs():
                yield from group.hear(run, iter(functools.partial(run.receive, 0.0), None))
            self._peers.check()
            if is_done() or time.monotonic() >= deadline:
                return
            group.wait(max(0.0, min(WAIT_S, deadline - time.monotonic())))

    def inspect(self, directory: str) -> dict[str, Any]:
        """Have the chief look at the SavedModel that it exported.

        Args:
          directory: the directory that it was to be exported to.

        Returns:
          `path` of the model, and its `signatures`.

        Raises:
          ModelError: there is none, or it cannot be loaded.
          ScriptDied: the process died while it loaded the model.
        """
        chief = self._group.chief
        chief.process.channel.send(wire.control_frame(wire.INSPECT, directory))
        frame = chief.receive_answer()
        if frame.kind == wire.FAILED:
            raise translate_failure(chief.label, frame.json(), chief.process.printed())
        return frame.json()

    def close(self) -> None:
        """End all processes of the cluster."""
        for process in self._processes:
            self._pool.release(process, keep=False)

    def _release_workers(self) -> None:
        """Tell tasks that only serve the chief that they are done."""
        for run in self._group.workers_unfinished:
            run.process.channel.send(wire.control_frame(wire.END_FEED))

    def _cut_off(self) -> None:
        """Deal with tasks that have not ended in the time that they had."""
        if self._must_end:
            self._group.check_grace(time.monotonic(), self._grace_s)
        for run in self._group.workers_unfinished:
            _LOGGER.warning(
                "%s has not ended %g s after the chief was done (cluster_grace), and is ended", run.label, self._grace_s
            )
            run.process.kill()


def _noting_reports(frames: Iterator[wire.Frame], reports: collections.deque[Report]) -> Iterator[wire.Frame]:
    """Yield the same frames, and note those that are reports of a training."""
    for frame in frames:
        if frame.kind == wire.REPORT:
            reports.append((time.time(), frame.json()))
        yield frame

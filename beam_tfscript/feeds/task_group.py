"""One attempt of a cluster in `dataset`: all tasks started, heard together, and ended with the chief or a failure."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.feeds.failures import translate_failure
from beam_tfscript.feeds.run import Run, RunRequest
from beam_tfscript.feeds.run_group import WAIT_S, RunGroup
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.runtime.transport import wire

_LOGGER = logging.getLogger(__name__)


class TaskGroup:
    """One attempt of a cluster.

    Args:
      staged: the script.
      tasks: the tasks, the chief first.
      grace_s: seconds that the other tasks may go on after the chief's end.
      must_end: True if it is an error that they go on for longer.
    """

    def __init__(self, staged: StagedScript, tasks: Sequence[Task], *, grace_s: float, must_end: bool):
        self._pool = staged.pool
        self._tasks = tasks
        self._grace_s = grace_s
        self._must_end = must_end
        self._group = RunGroup()
        # The limit is the size of one cluster: of two clusters of a transform in one harness, one waits for the other.
        self._processes = (
            staged.pool.acquire_all(staged.spec, len(tasks), limit=len(tasks), owner=self, unused=True) or []
        )

    def run(self, make_request: Callable[[Task], RunRequest]) -> Iterator[wire.Frame]:
        """Start every task and yield their frames until the work is done.

        The chief's end is the end of the work. Workers and evaluators have some time after it. So have the parameter
        servers that they may still ask, which end right after them.

        Args:
          make_request: makes the request of a task.

        Raises:
          ScriptError: a task failed; the message names it, and the other tasks are ended.
        """
        group = self._group
        for task, process in zip(self._tasks, self._processes):
            run = Run(process, make_request(task))
            group.add(task, run)
            run.start()
        deadline = float("inf")
        while group.workers_unfinished and time.monotonic() < deadline:
            for run in group.unfinished:
                yield from group.hear(run, iter(functools.partial(run.receive, 0.0), None))
            if group.chief.is_over and deadline == float("inf"):
                deadline = time.monotonic() + self._grace_s
                self._release_workers()
            if group.workers_unfinished:
                group.wait(max(0.0, min(WAIT_S, deadline - time.monotonic())))
        self._cut_off()
        for server in group.servers:
            server.process.kill()  # it holds no result

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

"""A run of the `stream` feed: one process, or a cluster of them, fed while it goes on from bundle to bundle."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.feeds.live_task import LiveTask
from beam_tfscript.feeds.row_backlog import PackedRows
from beam_tfscript.feeds.run import Run, RunRequest
from beam_tfscript.feeds.run_group import RunGroup
from beam_tfscript.runtime.transport import scratch, wire
from beam_tfscript.worker.process import ScriptProcess

# How long rows may take to leave this process before a bundle ends. A script's process takes them in from a thread of
# its own; only one that is stopped does not.
_FLUSH_S = 2.0


class LiveRun:
    """All tasks of a run; owns the leases of its processes.

    Args:
      key: the transform's.
      grace_s: seconds that the other tasks may go on after the chief's end.
      keeps_process: True if other runs may have its process before and after it; not of a training or a cluster.

    Attributes:
      key, keeps_process: as given.
      rows: the (stage, shard, window) whose rows it is fed.
      epoch: number of bundles that have advanced it. A state with another number is from before, or after, the rows
        that this run has seen.
      used_at: when a bundle last advanced it, on this machine's monotonic clock.
      tasks: its fed tasks, the chief first; the parameter servers of a cluster are not fed.
    """

    def __init__(self, key: str, *, grace_s: float = 0.0, keeps_process: bool = False):
        self.key = key
        self.rows: Hashable = None
        self.epoch = 0
        self.used_at = time.monotonic()
        self.keeps_process = keeps_process
        self.tasks: dict[Task, LiveTask] = {}
        self._grace_s = grace_s
        self._group = RunGroup()
        self._processes: list[ScriptProcess] = []
        self._owned = contextlib.ExitStack()

    def lease(self, processes: Sequence[ScriptProcess]) -> None:
        """Take over the processes: `release` gives them back."""
        self._processes += processes

    def own(self, close: Callable[[], Any]) -> None:
        """Have `release` call a function; the last one is called first."""
        self._owned.callback(close)

    def start(self, tasks: Sequence[Task], make_request: Callable[[Task], RunRequest], directory: str) -> None:
        """Start every task on its process, which may still be coming up.

        Args:
          tasks: the run's tasks, the chief first, in the order of the processes.
          make_request: makes the request of a task.
          directory: the run's own, removed by `release`.
        """
        self._owned.callback(scratch.remove_tree, directory)  # the script may have made read-only copies
        for task, process in zip(tasks, self._processes):
            request = make_request(task)
            if task.type == "ps":
                server = Run(process, request)
                self._group.add(task, server)
                server.start()
            else:
                self.tasks[task] = LiveTask(process, request, directory)
                self._group.add(task, self.tasks[task])

    def release(self, pool: Any) -> list[str | None]:
        """Give the processes back to the pool: to be used again, if the run has ended well.

        Returns:
          For each process, the limit for which it was ended instead; None if it was not.
        """
        # Before the directory is removed, which holds their files.
        for task in self.tasks.values():
            task.discard()
        keep = self.keeps_process and all(task.completed for task in self.tasks.values())
        limits = [pool.release(process, keep=keep) for process in self._processes]
        self._processes = []
        # After the processes have ended, or have ended their runs: scripts write to the run's directory.
        self._owned.close()
        return limits

    def done(self) -> dict[int, int]:
        """Return how many rows of each shard are done, and their outputs given out."""
        return {shard: task.done for shard, task in self._by_shard().items()}

    @property
    def devices(self) -> set[str]:
        """Ids of the accelerators that its processes have."""
        leases = [process.devices for process in self._processes]
        return {name for lease in leases if lease is not None for name in lease.ids}

    @property
    def has_stopped(self) -> bool:
        """True if the chief has asked for the end of the feed."""
        summary = self._group.chief.summary
        return summary is not None and summary["stopped"]

    @property
    def is_over(self) -> bool:
        """True if `main` has returned on all tasks."""
        return not self._group.workers_unfinished

    def feed(self, shard: int, count: int, payload: bytes) -> Iterator[wire.Frame]:
        """Give rows to their task, and yield outputs of all tasks meanwhile.

        Waits for room, so that a slow script slows the runner down, as long as no task waits for rows. Where one does,
        its rows may be behind these, and tasks that go in step would wait for each other for ever: then these rows
        wait in the task's backlog.

        Raises:
          ScriptError: a task failed, or does not read; the message names it.
        """
        fed = self._by_shard()
        fed[shard].put(PackedRows(count, payload))
        yield from self.collect()
        while fed[shard].has_backlog and not any(task.is_starving for task in fed.values()):
            self._group.wait()
            yield from self.collect()

    def collect(self) -> Iterator[wire.Frame]:
        """Yield outputs that have come, without waiting; send rows that have waited for room.

        Raises:
          ScriptError: a task failed; the message names it.
          IdleProcessDied: the process, which earlier runs had used, ended before it took this one.
        """
        for task in self.tasks:
            yield from self._collect_from(task)
        for server in self._group.servers:
            yield from self._group.hear(server, iter(functools.partial(server.receive, 0.0), None))

    def flush(self) -> None:
        """Send all rows that there was room for: nothing sends them between two bundles."""
        for task in self.tasks.values():
            task.process.channel.flush(_FLUSH_S)

    def finish(self) -> Iterator[wire.Frame]:
        """End the feeds, and yield outputs until `main` has returned on all tasks.

        Raises:
          ScriptError: a task failed; the message names it.
        """
        for task in self.tasks.values():
            task.end_when_sent()
        deadline = float("inf")
        yield from self.collect()
        while not self.is_over:
            self._group.wait()
            yield from self.collect()
            if self._group.chief.is_over:
                deadline = min(deadline, time.monotonic() + self._grace_s)
            self._group.check_grace(deadline, self._grace_s)

    def _collect_from(self, task: Task) -> Iterator[wire.Frame]:
        """Yield one task's outputs; before a model of the chief's, those that the other tasks sent earlier."""
        run = self.tasks[task]
        run.pump()
        for frame in self._group.hear(run, run.poll()):
            if frame.kind == wire.EXPORT and run is self._group.chief:
                yield from self._collect_from_peers()
            yield self._with_lengths(frame, task)

    def _collect_from_peers(self) -> Iterator[wire.Frame]:
        """Yield the outputs of all tasks but the chief: acknowledgements of rows in its model may be unread.

        A failure of theirs is raised after the model, in their own turn. The model is complete, and would be lost: its
        rows may be done already. So the failure's cause is not looked for here, as that drops frames of the chief's.
        """
        _, *peers = self.tasks.items()
        for task, run in peers:
            run.pump()
            for frame in run.poll_early():
                yield self._with_lengths(frame, task)

    def _by_shard(self) -> dict[int, LiveTask]:
        return {task.shard: run for task, run in self.tasks.items() if task.shard is not None}

    def _with_lengths(self, frame: wire.Frame, exporter: Task) -> wire.Frame:
        """Return a frame; an EXPORT with the rows of each worker that the model has seen, or may have seen."""
        if frame.kind != wire.EXPORT:
            return frame
        exported = frame.json()
        done = self.done()
        lengths = [exported["rows"] if exporter.shard == shard else done[shard] for shard in sorted(done)]
        return wire.control_frame(wire.EXPORT, {**exported, "dataset_lengths": lengths})

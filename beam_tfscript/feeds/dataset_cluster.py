"""One run of a cluster, from its files of rows to its outputs or its model, repeated as a whole."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.feeds.demultiplexer import Demultiplexer
from beam_tfscript.feeds.peers import Layout, Peers
from beam_tfscript.feeds.retries import Failures, Retries, repeat_whole
from beam_tfscript.feeds.run import RunRequest
from beam_tfscript.feeds.run_logs import RunLogs
from beam_tfscript.feeds.run_requests import make_task_request
from beam_tfscript.feeds.spool import OutputSpool
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.feeds.task_group import TaskGroup
from beam_tfscript.runtime.transport import wire


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a training.

    Attributes:
      attempt: number of the attempt that ended well, from 1.
      seconds: duration of that attempt.
      dataset_lengths: rows of each worker, the chief first.
      checksum: of all rows, the same for any order and any shards.
      model_path: the SavedModel's directory.
      signatures: of the model.
      progress: the values that the script has reported, in order.
    """

    attempt: int
    seconds: float
    dataset_lengths: list[int]
    checksum: str
    model_path: str
    signatures: dict[str, Any]
    progress: list[dict[str, float]]


class ClusterRun:
    """A run of one (cluster, window), in the `dataset` feed: all of its tasks, or those that are on this machine.

    Args:
      staged: the script, whose arguments have a cluster.
      layout: the tasks here, and their way to those on other machines.
      window: start and end in seconds, None in the global window.
      directory: of this run; its files are there until its owner removes it.
      side_inputs: the window's side inputs, for the script's config.
      rows: task -> the values of a request for its rows.
      checkpoint_dir: the directory that lasts from one attempt to the next; None of a run that trains nothing.
      publish: takes the outcome of a training where the chief is, before the other machines learn of its success.
    """

    def __init__(
        self,
        staged: StagedScript,
        layout: Layout,
        *,
        window: tuple[float, float] | None,
        directory: str,
        side_inputs: dict[str, Any],
        rows: Mapping[Task, Mapping[str, Any]],
        checkpoint_dir: str | None = None,
        publish: Callable[[Outcome], None] = lambda outcome: None,
    ):
        assert staged.options.cluster is not None
        self._staged = staged
        self._options = staged.options
        self._cluster = staged.options.cluster
        self._layout = layout
        self._window = window
        self._directory = directory
        self._side_inputs = side_inputs
        self._rows = rows
        self._checkpoint_dir = checkpoint_dir
        self._publish = publish

    def rows(self) -> Generator[list[bytes], None, None]:
        """Run the cluster, and yield the rows that the tasks here write, as lists of serialized Examples.

        Rows are yielded as they come where a failure fails the bundle. Where the run is repeated, they are yielded
        when it has ended well on all machines: each output goes downstream once.

        Raises:
          ScriptError: the last attempt failed; the message names the task.
          ScriptEnvironmentError: a process could not be started, the disk is full, or the tasks do not meet.
        """
        earlier = Failures(failures=self._layout.first_attempt - 1)
        frames = repeat_whole(
            self._attempt,
            Retries(self._options.max_attempts, earlier, is_counted=self._layout.has_chief),
            OutputSpool(os.path.join(self._directory, "outputs")),
            "All tasks are ended, and the cluster starts again.",
        )
        yield from Demultiplexer().rows(frames)

    def _attempt(self, attempt: int) -> Iterator[wire.Frame]:
        """Start the tasks here once, and yield their frames.

        Their directory is not that of another attempt, whose processes may still write there.
        """
        directory = tempfile.mkdtemp(prefix=f"attempt-{attempt}-", dir=self._directory)
        with self._layout.attempt(attempt) as peers:
            begin = time.monotonic()
            logs = RunLogs(self._options.log_dir, directory, attempt=attempt, window=self._window, name=peers.name)
            group = TaskGroup(
                self._staged, self._layout.tasks, peers, grace_s=self._cluster.grace_s,
                # A model is whole when the chief is done; rows are not while any task still writes them.
                must_end=self._checkpoint_dir is None,
            )  # fmt: skip
            try:
                yield from group.run(lambda task: self._request(task, attempt, peers, directory, logs))
                if self._checkpoint_dir is not None and self._layout.has_chief:
                    self._train(group, peers, attempt, directory, begin)
                group.close()
                peers.finish()
            finally:
                group.close()
                if self._layout.has_chief:
                    metrics.observe_seconds("run_ms", time.monotonic() - begin)
                logs.finish(f"{self._options.script.name} attempt {attempt}")

    def _train(self, group: TaskGroup, peers: Peers, attempt: int, directory: str, begin: float) -> None:
        """Publish the model that the chief has exported."""
        found = group.inspect(os.path.join(directory, "model"))
        outcome = Outcome(
            attempt=attempt, seconds=time.monotonic() - begin, dataset_lengths=list(peers.dataset_lengths),
            checksum=peers.checksum, model_path=found["path"], signatures=found["signatures"],
            progress=[values for _, values in group.reports],
        )  # fmt: skip
        self._publish(outcome)

    def _request(self, task: Task, attempt: int, peers: Peers, directory: str, logs: RunLogs) -> RunRequest:
        training: dict[str, Any] = {}
        if self._checkpoint_dir is not None:
            training = {
                "saved_model_dir": os.path.join(directory, "model"),
                "checkpoint_dir": self._checkpoint_dir,
                "dataset_of_workers": list(peers.files),
            }
        return make_task_request(
            self._staged, directory, task=task, side_inputs=self._side_inputs,
            log_dir=logs.of_task(task) if self._cluster.counts.total > 1 else logs.path,
            feed="dataset", window=self._window, attempt=attempt, cluster=peers.addresses,
            dataset_lengths=list(peers.dataset_lengths), **self._rows[task], **training,
        )  # fmt: skip


def describe_progress(progress: list[dict[str, float]]) -> tuple[str, str]:
    """Return the last value of each name, and all values in order, as JSON."""
    last: dict[str, float] = {}
    for values in progress:
        last.update(values)
    return json.dumps(last), json.dumps(progress)

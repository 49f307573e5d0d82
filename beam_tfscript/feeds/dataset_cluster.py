"""One run of a cluster, from its chunks to its rows or its model: spooled by shard, and repeated as a whole."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.tf_config import Task, make_addresses, make_tasks, num_addresses
from beam_tfscript.data import tfrecord
from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.feeds.demultiplexer import Demultiplexer
from beam_tfscript.feeds.retries import Retries, repeat_whole
from beam_tfscript.feeds.run import RunRequest
from beam_tfscript.feeds.run_logs import RunLogs
from beam_tfscript.feeds.run_requests import make_task_request
from beam_tfscript.feeds.spool import OutputSpool, ShardFiles
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.feeds.task_group import TaskGroup
from beam_tfscript.files.row_spool import SpooledFile
from beam_tfscript.runtime.transport import wire


@dataclasses.dataclass
class Outcome:
    """The result of a run, beside its rows.

    Attributes:
      attempt: number of the attempt that ended well, from 1.
      seconds: duration of that attempt.
      dataset_lengths: rows of each worker, the chief first.
      checksum: of all rows, the same for any order and any shards.
      model_path: the SavedModel's directory; None of a run that trains nothing.
      signatures: of the model.
      progress: the values that the script has reported, in order.
    """

    attempt: int = 0
    seconds: float = 0.0
    dataset_lengths: list[int] = dataclasses.field(default_factory=list)
    checksum: str = ""
    model_path: str | None = None
    signatures: dict[str, Any] = dataclasses.field(default_factory=dict)
    progress: list[dict[str, float]] = dataclasses.field(default_factory=list)


class ClusterRun:
    """A run of one (cluster, window), in the `dataset` feed.

    Args:
      staged: the script, whose arguments have a cluster.
      directory: of this run; its files are there until its owner removes it.
      side_inputs: the window's side inputs, for the script's config.
      checkpoint_dir: the directory that lasts from one attempt to the next; None of a run that trains nothing.

    Attributes:
      outcome: whole after the last row.
      spooled: references to spooled files that the chunks had; known when the rows begin.
    """

    def __init__(
        self,
        staged: StagedScript,
        *,
        directory: str,
        side_inputs: dict[str, Any],
        checkpoint_dir: str | None = None,
    ):
        assert staged.options.cluster is not None
        self._staged = staged
        self._options = staged.options
        self._cluster = staged.options.cluster
        self._directory = directory
        self._side_inputs = side_inputs
        self._checkpoint_dir = checkpoint_dir
        self.outcome = Outcome()
        self.spooled: list[SpooledFile] = []

    def rows(
        self, window: tuple[float, float] | None, chunks: Iterable[tuple[int, int, bytes, str]]
    ) -> Generator[list[bytes], None, None]:
        """Run the cluster, and yield the rows that it writes, as lists of serialized Examples.

        Rows are yielded as they come where a failure fails the bundle. Where the run is repeated, they are yielded
        when it has ended well: each output goes downstream once. `outcome` is whole after the last one.

        Args:
          window: start and end in seconds, None in the global window.
          chunks: (shard, count, TFRecord bytes, or a reference to a spooled file) each; iterated once.

        Raises:
          ScriptError: the last attempt failed; the message names the task.
          ScriptEnvironmentError: a process could not be started, or the disk is full.
        """
        files = ShardFiles(self._directory, self._cluster.counts.num_workers)
        checksum = RowsChecksum()
        self.spooled = files.fill(chunks if self._checkpoint_dir is None else _summed(chunks, checksum))
        self.outcome.dataset_lengths = files.lengths
        self.outcome.checksum = str(checksum)
        demultiplexer = Demultiplexer()
        frames = repeat_whole(
            lambda attempt: self._attempt(attempt, window, files),
            Retries(self._options.max_attempts),
            OutputSpool(os.path.join(self._directory, "outputs")),
            "All tasks are ended, and the cluster starts again.",
        )
        yield from demultiplexer.rows(frames)
        self.outcome.progress = list(demultiplexer.progress)

    def _attempt(self, attempt: int, window: tuple[float, float] | None, files: ShardFiles) -> Iterator[wire.Frame]:
        """Start the whole cluster once, and yield its frames.

        Its directory is not that of another attempt, whose processes may still write there.
        """
        counts = self._cluster.counts
        directory = tempfile.mkdtemp(prefix=f"attempt-{attempt}-", dir=self._directory)
        self.outcome.attempt = attempt
        begin = time.monotonic()
        logs = RunLogs(self._options.log_dir, directory, attempt=attempt, window=window)
        with HeldPorts(num_addresses(counts)) as ports:
            group = TaskGroup(
                self._staged, make_tasks(counts), grace_s=self._cluster.grace_s,
                # A model is whole when the chief is done; rows are not while any task still writes them.
                must_end=self._checkpoint_dir is None,
            )  # fmt: skip
            try:
                addresses = make_addresses(counts, ports.addresses)
                common = {"feed": "dataset", "window": window, "attempt": attempt, "cluster": addresses}
                yield from group.run(lambda task: self._request(task, files, directory, logs, **common))
                if self._checkpoint_dir is not None:
                    found = group.inspect(os.path.join(directory, "model"))
                    self.outcome.model_path, self.outcome.signatures = found["path"], found["signatures"]
            finally:
                group.close()
                self.outcome.seconds = time.monotonic() - begin
                metrics.observe_seconds("run_ms", self.outcome.seconds)
                logs.finish(f"{self._options.script.name} attempt {attempt}")

    def _request(self, task: Task, files: ShardFiles, directory: str, logs: RunLogs, **common: Any) -> RunRequest:
        training: dict[str, Any] = {}
        if self._checkpoint_dir is not None:
            training = {
                "saved_model_dir": os.path.join(directory, "model"),
                "checkpoint_dir": self._checkpoint_dir,
                "dataset_of_workers": [files.request(worker) for worker in range(self._cluster.counts.num_workers)],
            }
        # An evaluator has no rows of its own; with those of the chief it has something to evaluate on.
        rows = files.request(0 if task.type == "evaluator" else task.shard)
        return make_task_request(
            self._staged, directory, task=task, side_inputs=self._side_inputs,
            log_dir=logs.of_task(task) if self._cluster.counts.total > 1 else logs.path,
            dataset_lengths=files.lengths, **rows, **training, **common,
        )  # fmt: skip


def _summed(
    chunks: Iterable[tuple[int, int, bytes, str]], checksum: RowsChecksum
) -> Iterator[tuple[int, int, bytes, str]]:
    """Yield the same chunks, each added to the checksum."""
    for chunk in chunks:
        _, _, payload, reference = chunk
        if reference:
            checksum.add_sums(SpooledFile.decode(reference).checksum)
        else:
            checksum.add(tfrecord.split(payload))
        yield chunk


def describe_progress(progress: list[dict[str, float]]) -> tuple[str, str]:
    """Return the last value of each name, and all values in order, as JSON."""
    last: dict[str, float] = {}
    for values in progress:
        last.update(values)
    return json.dumps(last), json.dumps(progress)

"""One run of a cluster, from its chunks to its reports and model: spooled by shard, and repeated as a whole."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.tf_config import Task, make_addresses, make_tasks, num_addresses
from beam_tfscript.data import tfrecord
from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.errors import ScriptDied, ScriptError, ScriptRaised
from beam_tfscript.feeds.run_logs import RunLogs
from beam_tfscript.feeds.run_requests import make_task_request
from beam_tfscript.feeds.session import RunRequest
from beam_tfscript.feeds.spool import OutputSpool, ShardFiles
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.feeds.task_group import TaskGroup
from beam_tfscript.runtime.config.train_config import MAX_REPORTS
from beam_tfscript.runtime.transport import wire

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass
class Outcome:
    """What a run has come to, beside its rows.

    Attributes:
      attempt: the generation that has done it.
      seconds: what that took.
      dataset_lengths: rows of each worker, the chief first.
      checksum: of all rows, whatever their order and their shards.
      model_path: the SavedModel's directory; None of a run that trains nothing.
      signatures: of the model.
      reports: what the script has reported, in order.
    """

    attempt: int = 0
    seconds: float = 0.0
    dataset_lengths: list[int] = dataclasses.field(default_factory=list)
    checksum: str = ""
    model_path: str | None = None
    signatures: dict[str, Any] = dataclasses.field(default_factory=dict)
    reports: list[dict[str, float]] = dataclasses.field(default_factory=list)


class ClusterRun:
    """A run of one (cluster, window), in the `dataset` feed.

    Args:
      staged: the script, whose arguments have a cluster.
      directory: of this run; its files are there until its owner removes it.
      side_inputs: what the script's config is told of them.
      checkpoint_dir: what lasts from one generation to the next; None of a run that trains nothing.
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

    def reports(
        self, window: tuple[float, float] | None, chunks: Iterable[tuple[int, int, bytes]]
    ) -> Iterator[wire.Frame]:
        """Runs the cluster and yields its EXAMPLES and METRICS frames; `outcome` is whole after that.

        They are yielded as they come where a failure fails the bundle, and after the run has ended well
        where it is repeated: what goes downstream goes once.

        Args:
          window: start and end in seconds, None in the global window.
          chunks: (shard, count, TFRecord bytes) each; iterated once.

        Raises:
          ScriptError: the last generation failed; the message names the task.
          ScriptEnvironmentError: a process could not be started, or the disk is full.
        """
        files = ShardFiles(self._directory, self._cluster.counts.num_workers)
        checksum = RowsChecksum()
        files.fill(chunks if self._checkpoint_dir is None else _summed(chunks, checksum))
        self.outcome.dataset_lengths = files.lengths
        self.outcome.checksum = str(checksum)
        attempts = self._options.max_attempts or 1
        spool = OutputSpool(os.path.join(self._directory, "outputs"))
        for attempt in range(1, attempts + 1):
            try:
                if attempts == 1:
                    yield from self._generation(attempt, window, files)
                else:
                    spool.fill(self._generation(attempt, window, files))
                break
            except (ScriptDied, ScriptRaised) as error:
                if attempt == attempts:
                    raise
                _LOGGER.warning("%s\nAll tasks are ended, and the cluster starts again.", error)
        if attempts > 1:
            yield from spool.reports()

    def _generation(self, attempt: int, window: tuple[float, float] | None, files: ShardFiles) -> Iterator[wire.Frame]:
        """One start of the whole cluster; a directory of its own keeps what an older one may still write apart."""
        counts = self._cluster.counts
        directory = tempfile.mkdtemp(prefix=f"generation-{attempt}-", dir=self._directory)
        self.outcome.attempt = attempt
        self.outcome.reports = []
        metrics.add("runs")
        begin = time.monotonic()
        logs = RunLogs(self._options.log_dir, directory, attempt=attempt, window=window)
        with HeldPorts(num_addresses(counts)) as ports:
            group = TaskGroup(
                self._staged, make_tasks(counts), grace_s=self._cluster.grace_s,
                # A model is whole when the chief is done; rows are not while somebody still writes them.
                must_end=self._checkpoint_dir is None,
            )  # fmt: skip
            try:
                addresses = make_addresses(counts, ports.addresses)
                about = {"feed": "dataset", "window": window, "attempt": attempt, "cluster": addresses}
                for frame in group.run(lambda task: self._request(task, files, directory, logs, **about)):
                    if frame.kind == wire.REPORT:
                        self.outcome.reports = [*self.outcome.reports, frame.json()][-MAX_REPORTS:]
                    else:
                        yield frame
                if self._checkpoint_dir is not None:
                    found = group.inspect(os.path.join(directory, "model"))
                    self.outcome.model_path, self.outcome.signatures = found["path"], found["signatures"]
            except ScriptError as error:
                metrics.add("runs_failed")
                metrics.add("process_deaths", isinstance(error, ScriptDied))
                raise
            finally:
                group.close()
                self.outcome.seconds = time.monotonic() - begin
                metrics.observe_seconds("run_ms", self.outcome.seconds)
                logs.finish(f"{self._options.script.name} attempt {attempt}")

    def _request(self, task: Task, files: ShardFiles, directory: str, logs: RunLogs, **about: Any) -> RunRequest:
        training: dict[str, Any] = {}
        if self._checkpoint_dir is not None:
            training = {
                "saved_model_dir": os.path.join(directory, "model"),
                "checkpoint_dir": self._checkpoint_dir,
                "dataset_files": [files.file(worker)[0] for worker in range(self._cluster.counts.num_workers)],
            }
        # An evaluator has no rows of its own; with those of the chief it has something to evaluate on.
        path, length = files.file(0 if task.type == "evaluator" else task.shard)
        return make_task_request(
            self._staged, directory, task=task, side_inputs=self._side_inputs,
            log_dir=logs.of_task(task) if self._cluster.counts.total > 1 else logs.path,
            dataset_file=path, dataset_length=length, dataset_lengths=files.lengths, **training, **about,
        )  # fmt: skip


def _summed(chunks: Iterable[tuple[int, int, bytes]], checksum: RowsChecksum) -> Iterator[tuple[int, int, bytes]]:
    """The same chunks, each added to the checksum."""
    for chunk in chunks:
        checksum.add(tfrecord.split(chunk[2]))
        yield chunk


def describe_reports(reports: list[dict[str, float]]) -> tuple[str, str]:
    """The last value of each name, and the course of them all, as JSON."""
    last: dict[str, float] = {}
    for report in reports:
        last.update(report)
    return json.dumps(last), json.dumps(reports)

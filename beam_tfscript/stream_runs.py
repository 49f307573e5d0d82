"""How runs of the `stream` feed begin and end: one process, or a cluster of them."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.checkpoints import make_checkpoint_dir, remove_checkpoint_dir
from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.tf_config import Task, make_addresses, make_tasks, num_addresses
from beam_tfscript.errors import ScriptDied, ScriptError
from beam_tfscript.live_cluster import LiveCluster
from beam_tfscript.run_requests import count_lease, make_request, make_task_request, process_limit
from beam_tfscript.staged_script import StagedScript
from beam_tfscript.trained_model import TrainOptions
from beam_tfscript.worker.live_run import LiveRun
from beam_tfscript.worker.session import NeverStarted, RunRequest

AnyRun = LiveRun | LiveCluster


class StreamRuns:
    """Starts, counts and ends runs of the `stream` feed, for those who feed them.

    Args:
      staged: the script.
      training: where checkpoints go; None of runs that train nothing.
    """

    def __init__(self, staged: StagedScript, *, training: TrainOptions | None = None):
        self.staged = staged
        self._options = staged.options
        self._pool = staged.pool
        self._training = training

    def start(
        self,
        shard: int,
        window: tuple[float, float] | None,
        attempt: int,
        *,
        wait: bool,
        extra: int = 0,
        side_inputs: dict[str, Any] | None = None,
    ) -> AnyRun | None:
        """Starts a run.

        Args:
          shard, window, attempt: as in the script's config; of a cluster, the shard is one for all.
          wait: whether to wait while there is no place for its processes.
          extra: how many runs more there may be than `max_processes` allows.
          side_inputs: what the script's config is told of them.

        Returns:
          The run; None where there is no place and it was not waited.

        Raises:
          ScriptEnvironmentError: no process can be started.
        """
        about = {"feed": "stream", "window": window, "attempt": attempt, "side_inputs": side_inputs or {}}
        cluster = self._options.cluster
        run: AnyRun | None
        if cluster is not None and cluster.counts.total > 1:
            run = self._start_cluster(about, wait=wait, extra=extra)
        else:
            run = self._start_alone(shard, about, wait=wait, extra=extra)
        if run is not None:
            metrics.add("runs")
        return run

    def _start_alone(self, shard: int, about: dict[str, Any], *, wait: bool, extra: int) -> LiveRun | None:
        run = LiveRun(self._options.key, keeps_process=self._training is None)
        begin = time.monotonic()
        acquire = self._pool.acquire if wait else self._pool.try_acquire
        process = acquire(self.staged.spec, max_processes=process_limit(self._options) + extra, owner=run)
        if process is None:
            return None
        count_lease(process, time.monotonic() - begin)
        directory = tempfile.mkdtemp(prefix="run-", dir=self._pool.scratch())
        own = {**about, **self._train_in(directory, about)}
        request = make_request(self.staged, directory, shard=shard, num_shards=self._options.num_workers, **own)
        run.start(process, request, directory)
        return run

    def _start_cluster(self, about: dict[str, Any], *, wait: bool, extra: int) -> LiveCluster | None:
        cluster = self._options.cluster
        assert cluster is not None
        counts = cluster.counts
        run = LiveCluster(self._options.key, grace_s=cluster.grace_s)
        # A window's cluster begins before that of the window before has ended.
        limit = max(self._options.max_processes or 2 * counts.total, counts.total) + extra * counts.total
        begin = time.monotonic()
        processes = self._pool.acquire_all(self.staged.spec, counts.total, limit=limit, owner=run, wait=wait)
        if processes is None:
            return None
        for process in processes:
            count_lease(process, time.monotonic() - begin)
        directory = tempfile.mkdtemp(prefix="cluster-", dir=self._pool.scratch())
        ports = HeldPorts(num_addresses(counts))
        addresses = make_addresses(counts, ports.addresses)
        own = {**about, **self._train_in(directory, about)}

        def request(task: Task) -> RunRequest:
            return make_task_request(self.staged, directory, task=task, cluster=addresses, **own)

        run.start(make_tasks(counts), processes, request, directory, ports)
        return run

    def _train_in(self, directory: str, about: dict[str, Any]) -> dict[str, Any]:
        """What a training is told beside; its models are in a directory of this start of it alone."""
        if self._training is None:
            return {}
        return {
            "saved_model_dir": os.path.join(directory, "models", "model-1"),
            "checkpoint_dir": make_checkpoint_dir(self.staged, self._training, about["window"]),
        }

    def end(self, run: AnyRun) -> None:
        """Gives back the processes of a run: to be used again, if the run has ended well."""
        run.release(self._pool)

    def forget_window(self, window: tuple[float, float] | None) -> None:
        """Removes what another attempt would go on from: the window's run has ended well, and its outputs are taken."""
        if self._training is not None:
            remove_checkpoint_dir(self.staged, self._training, window)

    def count_unread(self, run: AnyRun) -> None:
        """Counts what a run that asked for the end of its feed has left."""
        metrics.add("rows_unread", run.unread)

    def explain(self, run: AnyRun, error: ScriptError | NeverStarted) -> ScriptError:
        """Ends a run that has failed; returns why, for the log or to be raised."""
        explained = run.explain(error)
        metrics.add("runs_failed")
        metrics.add("process_deaths", isinstance(explained, ScriptDied))
        self.end(run)
        return explained

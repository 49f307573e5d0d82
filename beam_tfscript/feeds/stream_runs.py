"""Start and end of runs of the `stream` feed: one process, or a cluster of them."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.cluster.counts import Counts
from beam_tfscript.cluster.ports import HeldPorts
from beam_tfscript.cluster.tf_config import Task, make_addresses, make_tasks, num_addresses
from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.feeds.checkpoints import make_checkpoint_dir, remove_checkpoint_dir
from beam_tfscript.feeds.live_run import LiveRun
from beam_tfscript.feeds.run_logs import RunLogs
from beam_tfscript.feeds.run_requests import (
    count_lease,
    count_recycled,
    make_request,
    make_task_request,
    process_limit,
    task_spec,
)
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.options.train_options import TrainOptions
from beam_tfscript.worker.process import ScriptProcess


class StreamRuns:
    """Starts and ends runs of the `stream` feed.

    Args:
      staged: the script.
      training: the training's arguments; None of runs that train nothing.
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
        state: StreamState,
        *,
        wait: bool,
        extra: int = 0,
        side_inputs: dict[str, Any] | None = None,
    ) -> LiveRun | None:
        """Start a run.

        Args:
          shard, window: as in the script's config; of a cluster, the shard is one for all.
          state: the rows' state.
          wait: True to wait while all processes are taken.
          extra: number of runs beyond those that `max_processes` allows.
          side_inputs: the window's side inputs, for the script's config.

        Returns:
          The run; None if all processes are taken and `wait` is False.

        Raises:
          ScriptEnvironmentError: no process can be started.
        """
        cluster = self._options.cluster
        is_cluster = cluster is not None and cluster.counts.total > 1
        run = LiveRun(
            self._options.key,
            grace_s=cluster.grace_s if cluster is not None else 0.0,
            keeps_process=self._training is None and not is_cluster,
        )
        if not self._lease(run, wait=wait, extra=extra):
            return None
        try:
            common = {"feed": "stream", "window": window, "attempt": state.attempt, "side_inputs": side_inputs or {}}
            self._start(run, shard, common, state)
        except BaseException:
            self.end(run)
            raise
        return run

    def _lease(self, run: LiveRun, *, wait: bool, extra: int) -> bool:
        """Lease the run's processes; return False if all are taken."""
        begin = time.monotonic()
        processes = self._acquire(run, wait=wait, extra=extra)
        if processes is None:
            # Runs stay here when the runner moves their keys to other workers.
            for stale in self._pool.live_runs.take_stale(self._options.key):
                self.end(stale)
            processes = self._acquire(run, wait=wait, extra=extra)
        if processes is None:
            return False
        run.lease(processes)
        for process in processes:
            count_lease(process, time.monotonic() - begin)
        return True

    def _acquire(self, run: LiveRun, *, wait: bool, extra: int) -> list[ScriptProcess] | None:
        cluster = self._options.cluster
        specs = [self.staged.spec]
        limit = process_limit(self._options)
        if cluster is not None and cluster.counts.total > 1:
            specs = [task_spec(self.staged.spec, task) for task in make_tasks(cluster.counts)]
            # A window's cluster begins before that of the window before has ended.
            limit = max(self._options.max_processes or 2 * len(specs), len(specs))
        limit += extra * len(specs)
        return self._pool.acquire_all(specs, limit=limit, owner=run, unused=not run.keeps_process, wait=wait)

    def _start(self, run: LiveRun, shard: int, common: dict[str, Any], state: StreamState) -> None:
        cluster = self._options.cluster
        counts = Counts(1, 0, 0) if cluster is None else cluster.counts
        try:
            directory = tempfile.mkdtemp(prefix="run-", dir=self._pool.scratch())
        except OSError as error:
            raise ScriptEnvironmentError(
                f"the run's directory cannot be made: {error}. Set TMPDIR to a directory with space."
            ) from error
        logs = RunLogs(
            self._options.log_dir, directory,
            attempt=common["attempt"], window=common["window"], shard=shard if counts.total == 1 else None,
        )  # fmt: skip
        own = {**common, **self._train_in(common["window"], state)}
        if counts.total == 1:
            alone = Task("chief", 0, shard)
            own.update(self._model_dir(alone, directory), num_shards=self._options.num_workers, log_dir=logs.path)
            run.start([alone], lambda task: make_request(self.staged, directory, shard=shard, **own), directory)
        else:
            self._start_cluster(run, counts, directory, own, logs)
        # The last owned is closed first: the logs are copied before the directory is removed.
        run.own(lambda: logs.finish(f"{self._options.script.name} attempt {common['attempt']}"))

    def _start_cluster(self, run: LiveRun, counts: Counts, directory: str, own: dict[str, Any], logs: RunLogs) -> None:
        assert self._options.cluster is not None
        ports = HeldPorts(num_addresses(counts), self._options.cluster.port_range)
        run.own(ports.close)
        addresses = make_addresses(counts, ports.addresses)
        run.start(
            make_tasks(counts),
            lambda task: make_task_request(
                self.staged,
                directory,
                task=task,
                cluster=addresses,
                log_dir=logs.of_task(task),
                **own,
                **self._model_dir(task, directory),
            ),
            directory,
        )

    def _train_in(self, window: tuple[float, float] | None, state: StreamState) -> dict[str, Any]:
        """Return the values that only a training's request has."""
        if self._training is None:
            return {}
        return {
            "checkpoint_dir": make_checkpoint_dir(self.staged, self._training, window),
            # With replay, a training that begins anew exports the same models again.
            "exports": state.first_export if self._options.replay else state.exports,
        }

    def _model_dir(self, task: Task, directory: str) -> dict[str, Any]:
        """Return the request's entry for a task's models: one directory per task, as some strategies have all save."""
        if self._training is None:
            return {}
        return {"saved_model_dir": os.path.join(directory, f"models-{task.type}-{task.index}", "model-1")}

    def end(self, run: LiveRun) -> None:
        """Give back the processes of a run: to be used again, if the run has ended well."""
        metrics.add("runs_doubtful", sum(task.is_doubtful for task in run.tasks.values()))
        for limit in run.release(self._pool):
            count_recycled(limit)

    def forget_window(self, window: tuple[float, float] | None) -> None:
        """Remove a window's checkpoints: its run has ended well, and its outputs are taken."""
        if self._training is not None:
            remove_checkpoint_dir(self.staged, self._training, window)

    def count_unread(self, run: LiveRun) -> None:
        """Count rows that tasks which asked for the end of their feed have not read."""
        metrics.add("rows_unread", sum(task.unread for task in run.tasks.values()))

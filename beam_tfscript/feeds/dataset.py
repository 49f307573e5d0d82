"""One run of a shard, from its chunks to its reports: spooled, leased a process, repeated where it may be."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.errors import ScriptDied, ScriptError, ScriptRaised
from beam_tfscript.feeds.run_logs import RunLogs
from beam_tfscript.feeds.run_requests import count_lease, make_request, process_limit
from beam_tfscript.feeds.session import NeverStarted, RunRequest, Session
from beam_tfscript.feeds.spool import OutputSpool, write_dataset
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.runtime.transport import scratch, wire

_LOGGER = logging.getLogger(__name__)


class ShardRun:
    """A run of one (shard, window), in the `dataset` feed.

    Args:
      staged: the script.
      user: the DoFn instance the leases are counted to.
      side_inputs: what the script's config is told of them.
    """

    def __init__(self, staged: StagedScript, *, user: object, side_inputs: dict[str, Any]):
        self._staged = staged
        self._options = staged.options
        self._pool = staged.pool
        self._user = user
        self._side_inputs = side_inputs

    def reports(
        self, shard: int, window: tuple[float, float] | None, chunks: Iterable[tuple[int, bytes]]
    ) -> Iterator[wire.Frame]:
        """Runs the script over the chunks and yields its EXAMPLES and METRICS frames.

        They are yielded as they come where a failure fails the bundle, and after the run has ended well
        where it is repeated inside the bundle: what goes downstream goes once.

        Args:
          shard: which shard.
          window: start and end in seconds, None in the global window.
          chunks: (count, TFRecord bytes) each.

        Raises:
          ScriptError: the last attempt failed.
          ScriptEnvironmentError: no process could be started, or the disk is full.
        """
        with tempfile.TemporaryDirectory(prefix="run-", dir=self._pool.scratch()) as directory:
            dataset = os.path.join(directory, "dataset.tfrecord")
            rows, _ = write_dataset(dataset, chunks)
            message = {"shard": shard, "window": window, "dataset_file": dataset, "dataset_length": rows}
            if self._options.max_attempts == 1:
                yield from self._attempt(1, message, directory)
            else:
                yield from self._repeat(message, directory)

    def _repeat(self, message: dict[str, Any], directory: str) -> Iterator[wire.Frame]:
        assert self._options.max_attempts is not None
        spool = OutputSpool(os.path.join(directory, "outputs"))
        for attempt in range(1, self._options.max_attempts + 1):
            try:
                spool.fill(self._attempt(attempt, message, directory))
                break
            except (ScriptDied, ScriptRaised) as error:
                if attempt == self._options.max_attempts:
                    raise
                _LOGGER.warning("%s\nThe run is repeated from its spool.", error)
        yield from spool.reports()

    def _attempt(self, attempt: int, message: dict[str, Any], directory: str) -> Iterator[wire.Frame]:
        logs = RunLogs(
            self._options.log_dir, directory, attempt=attempt, window=message["window"], shard=message["shard"]
        )
        request = make_request(
            self._staged, directory, log_dir=logs.path,
            feed="dataset", num_shards=self._options.num_workers, attempt=attempt,
            side_inputs=self._side_inputs, **message,
        )  # fmt: skip
        metrics.add("runs")
        begin = time.monotonic()
        try:
            yield from self._run(request)
        except ScriptError as error:
            metrics.add("runs_failed")
            metrics.add("process_deaths", isinstance(error, ScriptDied))
            raise
        finally:
            metrics.observe_seconds("run_ms", time.monotonic() - begin)
            logs.finish(request.label)
            scratch.remove_tree(request.message["work_dir"])

    def _run(self, request: RunRequest) -> Iterator[wire.Frame]:
        while True:
            limit = process_limit(self._options)
            with self._pool.lease(self._staged.spec, max_processes=limit, user=self._user) as lease:
                count_lease(lease.process, lease.wait_s)
                if lease.is_fresh:
                    metrics.observe_seconds("process_start_ms", lease.process.start_s)
                session = Session(lease.process, request)
                try:
                    yield from session.reports()
                except NeverStarted as error:
                    if lease.is_fresh:
                        raise lease.process.died(request.label) from error
                    # It ended while it was idle, before it took the run: nothing of the run was lost,
                    # and another process takes it. A fresh one that ends so would end so again.
                    _LOGGER.warning("%s: the idle process %r %s", request.label, lease.process, error)
                    continue
                metrics.add("runs_doubtful", session.is_doubtful)
                if session.completed:
                    lease.keep()
                return

"""The run of one shard in the `dataset` feed: its chunks to files, one run over them, its outputs given out."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.feeds.demultiplexer import Demultiplexer
from beam_tfscript.feeds.failures import IdleProcessDied
from beam_tfscript.feeds.retries import Retries, repeat_whole
from beam_tfscript.feeds.run import Run, RunRequest
from beam_tfscript.feeds.run_logs import RunLogs
from beam_tfscript.feeds.run_requests import count_lease, count_recycled, make_request, process_limit
from beam_tfscript.feeds.spool import OutputSpool, ShardFiles
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.files.row_spool import SpooledFile
from beam_tfscript.runtime.transport import scratch, wire


class ShardRun:
    """A run of one (shard, window), in the `dataset` feed.

    Args:
      staged: the script.
      user: the DoFn instance that the leases are counted to.
      side_inputs: the window's side inputs, for the script's config.

    Attributes:
      spooled: references to spooled files that the chunks had; known when the rows begin.
    """

    def __init__(self, staged: StagedScript, *, user: object, side_inputs: dict[str, Any]):
        self.spooled: list[SpooledFile] = []
        self._staged = staged
        self._options = staged.options
        self._pool = staged.pool
        self._user = user
        self._side_inputs = side_inputs

    def rows(
        self, shard: int, window: tuple[float, float] | None, chunks: Iterable[tuple[int, int, bytes, str]]
    ) -> Generator[list[bytes], None, None]:
        """Run the script over the chunks, and yield the rows that it writes, as lists of serialized Examples.

        Rows are yielded as they come where a failure fails the bundle. Where the run is repeated inside the bundle,
        they are yielded when it has ended well: each output goes downstream once.

        Args:
          shard: number of the shard, from 0.
          window: start and end in seconds, None in the global window.
          chunks: of this shard: (shard, count, TFRecord bytes, or a reference to a spooled file) each.

        Raises:
          ScriptError: the last attempt failed.
          ScriptEnvironmentError: no process could be started, or the disk is full.
        """
        with tempfile.TemporaryDirectory(prefix="run-", dir=self._pool.scratch()) as directory:
            files = ShardFiles(directory, self._options.num_workers)
            self.spooled = files.fill(chunks)
            message = {"shard": shard, "window": window, **files.request(shard)}
            frames = repeat_whole(
                lambda attempt: self._attempt(attempt, message, directory),
                Retries(self._options.max_attempts),
                OutputSpool(os.path.join(directory, "outputs")),
                "The run is repeated from its spool.",
            )
            yield from Demultiplexer().rows(frames)

    def _attempt(self, attempt: int, message: dict[str, Any], directory: str) -> Iterator[wire.Frame]:
        logs = RunLogs(
            self._options.log_dir, directory, attempt=attempt, window=message["window"], shard=message["shard"]
        )
        request = make_request(
            self._staged, directory, log_dir=logs.path,
            feed="dataset", num_shards=self._options.num_workers, attempt=attempt,
            side_inputs=self._side_inputs, **message,
        )  # fmt: skip
        begin = time.monotonic()
        is_counted = True
        try:
            yield from self._run(request)
        except IdleProcessDied:
            is_counted = False  # nothing of the run has happened: `begin_run` counts no run either
            raise
        finally:
            if is_counted:
                metrics.observe_seconds("run_ms", time.monotonic() - begin)
            logs.finish(request.label)
            scratch.remove_tree(request.message["work_dir"])

    def _run(self, request: RunRequest) -> Iterator[wire.Frame]:
        limit = process_limit(self._options)
        with self._pool.lease(self._staged.spec, max_processes=limit, user=self._user) as lease:
            count_lease(lease.process, lease.wait_s)
            if lease.is_fresh:
                metrics.observe_seconds("process_start_ms", lease.process.start_s)
            run = Run(lease.process, request)
            yield from run.frames()
            metrics.add("runs_doubtful", run.is_doubtful)
            if run.completed:
                lease.keep()
        count_recycled(lease.ended_by)

"""How runs of the `stream` feed begin and end."""

from __future__ import annotations

import tempfile
import time
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.errors import ScriptDied, ScriptError
from beam_tfscript.options import ScriptOptions
from beam_tfscript.run_requests import count_lease, make_request, process_limit
from beam_tfscript.worker.live_run import LiveRun
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process import ProcessSpec
from beam_tfscript.worker.session import NeverStarted


class StreamRuns:
    """Starts, counts and ends runs of the `stream` feed, for those who feed them.

    Args:
      options: the transform's arguments.
      spec: the process they run on.
      pool: where that is leased.
      staged: directory of the script's files.
    """

    def __init__(self, options: ScriptOptions, spec: ProcessSpec, *, pool: ProcessPool, staged: str):
        self.options = options
        self._spec = spec
        self._pool = pool
        self._staged = staged

    def start(
        self,
        shard: int,
        window: tuple[float, float] | None,
        attempt: int,
        *,
        wait: bool,
        extra: int = 0,
        side_inputs: dict[str, Any] | None = None,
    ) -> LiveRun | None:
        """Starts a run.

        Args:
          shard, window, attempt: as in the script's config.
          wait: whether to wait while there is no place for a process.
          side_inputs: what the script's config is told of them.
          extra: how many places more there are than `max_processes`.

        Returns:
          The run; None where there is no place and it was not waited.

        Raises:
          ScriptEnvironmentError: no process can be started.
        """
        run = LiveRun(self.options.key)
        begin = time.monotonic()
        acquire = self._pool.acquire if wait else self._pool.try_acquire
        process = acquire(self._spec, max_processes=process_limit(self.options) + extra, owner=run)
        if process is None:
            return None
        count_lease(process, time.monotonic() - begin)
        directory = tempfile.mkdtemp(prefix="run-", dir=self._pool.scratch())
        request = make_request(
            self.options, self._staged, directory,
            feed="stream", shard=shard, num_shards=self.options.num_workers, window=window, attempt=attempt,
            side_inputs=side_inputs or {},
        )  # fmt: skip
        run.start(process, request, directory)
        metrics.add("runs")
        return run

    def end(self, run: LiveRun) -> None:
        """Gives back the process of a run: to be used again, if the run has ended well."""
        run.close()
        self._pool.release(run.process, keep=run.session.completed)

    def count_unread(self, run: LiveRun) -> None:
        """Counts what a run that asked for the end of its feed has left."""
        assert run.session.summary is not None
        metrics.add("rows_unread", run.session.sent - run.session.summary["taken"])

    def explain(self, run: LiveRun, error: ScriptError | NeverStarted) -> ScriptError:
        """Ends a run that has failed; returns why, for the log or to be raised."""
        if isinstance(error, NeverStarted):
            error = run.process.died(run.session.label)
        metrics.add("runs_failed")
        metrics.add("process_deaths", isinstance(error, ScriptDied))
        self.end(run)
        return error

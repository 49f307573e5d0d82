"""The run of a (shard, window) of unbounded input, bundle by bundle: found by its identity, replaced if it is gone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Hashable
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.feeds.demultiplexer import Demultiplexer, Output
from beam_tfscript.feeds.kept_rows import Chunk, StateRows, arrive
from beam_tfscript.feeds.live_run import LiveRun
from beam_tfscript.feeds.stream import StreamFeed
from beam_tfscript.feeds.stream_runs import StreamRuns
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.runtime.transport import wire


class ShardStream(StreamFeed):
    """Advances the run of one (shard, window) by one bundle.

    Args:
      runs: starts and ends runs.
      stage: names the stage of the pipeline, whose shards and windows are its own.
      shard, window: of the rows.
      state: the rows' state from the runner; updated.
      bag: the runner's state of kept rows.
    """

    def __init__(
        self,
        runs: StreamRuns,
        stage: str,
        *,
        shard: int,
        window: tuple[float, float] | None,
        state: StreamState,
        bag: Any,
    ):
        super().__init__(runs)
        self._shard = shard
        self._window = window
        self._state = state
        self._rows: Hashable = (stage, shard, window)
        self._live = runs.staged.pool.live_runs
        self._kept = StateRows(bag, state, replay=self._options.replay, limit_bytes=self._options.keep_unacked_bytes)

    def step(self, chunk: tuple[int, int, bytes] | None, *, is_end: bool = False) -> Generator[Output, None, None]:
        """Give the run its rows, and yield its outputs.

        Args:
          chunk: new rows: (shard, count, payload); None for none.
          is_end: True if no more rows come; the run is over when this returns.

        Raises:
          ScriptError: the run failed as often as it may, or in a way that would come again.
        """
        with self._live.guard(self._rows):
            yield from Demultiplexer().outputs(self._step(chunk, is_end))

    def poll(self) -> Generator[Output, None, None]:
        """Yield outputs that have come since; none while another bundle deals with the run."""
        with self._live.guard(self._rows, wait=False) as is_free:
            if is_free:
                yield from Demultiplexer().outputs(self._step(None, False))

    @property
    def may_give_more(self) -> bool:
        """True if there may be outputs without more rows, or rows that wait for a process."""
        run = None if self._state.run is None else self._live.find(self._state.run)
        if run is not None:
            return any(task.may_give_more for task in run.tasks.values())
        return not self._state.has_stopped and bool(self._state.kept_chunks)

    def _step(self, chunk: tuple[int, int, bytes] | None, is_end: bool) -> Generator[wire.Frame, None, None]:
        state = self._state
        if state.has_stopped:
            metrics.add("rows_unread", chunk[1] if chunk else 0)
            return
        incoming: list[Chunk] = [] if chunk is None else [arrive(state, *chunk)]
        run = yield from self._drive(state, self._kept, self._find(), incoming, is_end=is_end)
        if run is None:
            self._kept.settle()
            return
        state.epoch = run.epoch = state.epoch + 1
        run.used_at = time.monotonic()
        if not run.is_over:
            self._kept.settle()
            return
        state.has_stopped = run.has_stopped
        self._runs.count_unread(run)
        self._kept.clear()
        self._forget(state)
        self._runs.end(run)

    def _find(self) -> LiveRun | None:
        """Return the run that the state names, if it is here and its epoch is the state's."""
        state = self._state
        if state.run is None:
            return None
        run = self._live.find(state.run)
        if run is not None and run.epoch == state.epoch:
            return run
        if run is not None:
            # The runner has taken back a bundle whose rows this run has seen.
            self._runs.end(run)
        self._forget(state)
        self._lose(state, self._kept)
        return None

    def _begin(self, state: StreamState, *, is_end: bool) -> LiveRun | None:
        """Start a run if a process is free; one that must end now may take a process beyond the limit."""
        for forgotten in self._live.take_of(self._rows):
            # The runner has gone back to a state from before this run.
            self._runs.end(forgotten)
        run = self._runs.start(self._shard, self._window, state, wait=is_end, extra=int(is_end))
        if run is not None:
            state.run = uuid.uuid4().hex
            run.rows = self._rows
            self._live.add(state.run, run)
        return run

    def _forget(self, state: StreamState) -> None:
        if state.run is not None:
            self._live.remove(state.run)
        super()._forget(state)

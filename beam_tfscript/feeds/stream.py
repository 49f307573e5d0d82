"""Rows of a (shard, window), fed to a run of the `stream` feed, and to the next run if that one dies."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator

from beam_tfscript import metrics
from beam_tfscript.errors import ScriptError
from beam_tfscript.feeds.failures import IdleProcessDied
from beam_tfscript.feeds.kept_rows import Chunk, KeptRows
from beam_tfscript.feeds.live_run import LiveRun
from beam_tfscript.feeds.retries import RETRYABLE, Retries
from beam_tfscript.feeds.stream_runs import StreamRuns
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.runtime.transport import wire


class StreamFeed:
    """Feeds rows to a run, and feeds them again where a run has died.

    Rows are kept before they are fed. So after a death the next run needs the kept rows alone: from the window's first
    row on with `replay`, else from the first row that is not acknowledged.

    Args:
      runs: starts and ends runs.
    """

    def __init__(self, runs: StreamRuns):
        self._runs = runs
        self._options = runs.staged.options

    def _begin(self, state: StreamState, *, is_end: bool) -> LiveRun | None:
        """Start a run; return None if all processes are taken."""
        raise NotImplementedError

    def _forget(self, state: StreamState) -> None:
        """Forget the run that `state` names: the next one is another attempt."""
        state.end_run()

    def _drive(
        self, state: StreamState, kept: KeptRows, run: LiveRun | None, incoming: Iterable[Chunk], *, is_end: bool
    ) -> Generator[wire.Frame, None, LiveRun | None]:
        """Feed new rows to the run, or to as many runs as it takes; yield the runs' frames.

        Args:
          state: the positions of the rows; updated.
          kept: the rows that are kept.
          run: the run that goes on; None if there is none.
          incoming: the new rows; iterated once.
          is_end: True if no more rows come; then the run is over at the end.

        Returns:
          The run; None if there is none, as there are no rows for it, or as all processes are taken.

        Raises:
          ScriptError: the run failed as often as it may, or in a way that would come again.
        """
        retries = Retries(self._options.max_attempts, state, shows_first=True)
        new = _keep(kept, incoming)
        to_feed: Iterator[Chunk] = new
        while True:
            if run is None:
                to_feed, has_rows = _peek(itertools.chain(self._rows_of_next_run(state, kept), new))
                if not has_rows:
                    return None
                run = self._begin(state, is_end=is_end)
                if run is None:
                    for _ in to_feed:
                        pass  # they are kept
                    return None
                retries.begin_run()
                state.begin_run(replay=self._options.replay)
            is_finishing = False
            try:
                # A run that has died since the last bundle is found here.
                yield from run.collect()
                for chunk in to_feed:
                    yield from run.feed(chunk.shard, chunk.num_rows, chunk.payload)
                if is_end:
                    is_finishing = True
                    yield from run.finish()
                else:
                    run.flush()
                state.note_acked(run.done())
                return run
            except RETRYABLE as error:
                self._end_failed(state, kept, run, error)
                failure: ScriptError = error
                run = None
            except BaseException:
                self._forget(state)
                self._runs.end(run)
                raise
            to_feed, has_rows = _peek(itertools.chain(self._rows_of_next_run(state, kept), new))
            rows = "Its window's rows" if self._options.replay else "The rows that it had not done"
            next_step = f"{rows} are sent again." if has_rows else "All its rows were done by then."
            retries.fail(failure, next_step, is_last=is_finishing and not has_rows)

    def _end_failed(self, state: StreamState, kept: KeptRows, run: LiveRun, error: ScriptError) -> None:
        """End a run that has failed; note which of its rows are done, and count those that are lost."""
        state.note_acked(run.done())
        self._forget(state)
        if isinstance(error, IdleProcessDied):
            state.attempt -= 1  # the run never started: the next one is the same attempt
        self._runs.end(run)
        if not self._options.replay:
            self._runs.count_unread(run)
        self._lose(state, kept)

    def _rows_of_next_run(self, state: StreamState, kept: KeptRows) -> Iterator[Chunk]:
        """Yield the kept rows that a new run is fed."""
        for chunk in kept.read():
            done = 0 if self._options.replay else state.position(chunk.shard).done
            if chunk.end > done or not chunk.num_rows:
                yield chunk.without_first(max(0, done - chunk.start))

    def _lose(self, state: StreamState, kept: KeptRows) -> None:
        """Count rows that are lost with a run, as it had not done them and they are not kept."""
        if not self._options.replay:
            kept.expire(self._options.keep_unacked_s)
            metrics.add("rows_lost", state.take_lost())


def _keep(kept: KeptRows, incoming: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield the rows, each chunk kept as it passes."""
    for chunk in incoming:
        kept.add(chunk)
        yield chunk


def _peek(chunks: Iterator[Chunk]) -> tuple[Iterator[Chunk], bool]:
    """Return the same chunks, and True if there are any."""
    for first in chunks:
        return itertools.chain([first], chunks), True
    return chunks, False

"""Feeds the rows of a (shard, window) to a run, and to the next one where it dies: the retries of the `stream` feed."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Iterable, Iterator

from beam_tfscript import metrics
from beam_tfscript.errors import ScriptDied, ScriptError, ScriptRaised
from beam_tfscript.feeds.kept_rows import Chunk, KeptRows
from beam_tfscript.feeds.live_run import LiveRun
from beam_tfscript.feeds.session import NeverStarted
from beam_tfscript.feeds.stream_runs import StreamRuns
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.runtime.transport import wire

_LOGGER = logging.getLogger(__name__)

# Of an error that is remembered in the state.
_ERROR_CHARS = 8000


class StreamFeed:
    """Feeds rows, and feeds them again where a run has died.

    Rows are kept before they are fed. So after a death the next run needs nothing but what is kept: from the window's
    first row on with `replay`, else from the first row that is not acknowledged.

    Args:
      runs: starts and ends runs.
    """

    def __init__(self, runs: StreamRuns):
        self._runs = runs
        self._options = runs.staged.options

    def _begin(self, state: StreamState, *, is_end: bool) -> LiveRun | None:
        """Start a run; return None where there is no place for it yet."""
        raise NotImplementedError

    def _forget(self, state: StreamState) -> None:
        """Forget the run that `state` speaks of: the next one is another attempt."""
        state.end_run()

    def _drive(
        self, state: StreamState, kept: KeptRows, run: LiveRun | None, incoming: Iterable[Chunk], *, is_end: bool
    ) -> Generator[wire.Frame, None, LiveRun | None]:
        """Feed rows that have come to the run, or to as many runs as it takes; yields what they give.

        Args:
          state: where the rows stand; brought on.
          kept: the rows that are kept.
          run: the run that goes on; None where there is none.
          incoming: rows that have come; iterated once.
          is_end: whether no more come; then the run is over at the end.

        Returns:
          The run; None where there is none, as there are no rows for it or there is no place.

        Raises:
          ScriptError: the run failed as often as it may, or in a way that would come again.
        """
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
                state.begin_run(replay=bool(self._options.replay))
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
                state.note_acked(run.acked())
                return run
            except NeverStarted as error:
                # Its process ended while it was idle, before it took the run: nothing has happened, and another
                # process takes it.
                _LOGGER.warning("%s", error)
                self._forget(state)
                state.attempt -= 1
                self._runs.end(run)
                run = None
                self._lose(state, kept)
                continue
            except (ScriptDied, ScriptRaised) as error:
                state.note_acked(run.acked())
                self._forget(state)
                self._runs.fail(run, error)
                if not self._options.replay:
                    self._runs.count_unread(run)
                failure: ScriptError = error
                run = None
            except BaseException:
                self._forget(state)
                self._runs.end(run)
                raise
            self._lose(state, kept)
            to_feed, has_rows = _peek(itertools.chain(self._rows_of_next_run(state, kept), new))
            self._check_attempts(state, failure, has_rows=has_rows, is_finishing=is_finishing)

    def _rows_of_next_run(self, state: StreamState, kept: KeptRows) -> Iterator[Chunk]:
        """The kept rows that a new run is fed."""
        for chunk in kept.read():
            done = 0 if self._options.replay else state.position(chunk.shard).done
            if chunk.end > done or not chunk.num_rows:
                yield chunk.without_first(max(0, done - chunk.start))

    def _lose(self, state: StreamState, kept: KeptRows) -> None:
        """Count the rows that a run which is gone has taken along."""
        if not self._options.replay:
            kept.expire(self._options.keep_unacked_s)
            metrics.add("rows_lost", state.take_lost())

    def _check_attempts(self, state: StreamState, error: ScriptError, *, has_rows: bool, is_finishing: bool) -> None:
        """Count a failed attempt, and say what becomes of its rows; raises if it was the last."""
        state.failures += 1
        state.first_error = state.first_error or str(error)[:_ERROR_CHARS]
        assert self._options.max_attempts is not None
        if state.failures >= self._options.max_attempts or (is_finishing and not has_rows):
            raise _with_first(error, state)
        what = "Its window's rows" if self._options.replay else "The rows that it had not done"
        _LOGGER.warning("%s\n%s.", error, f"{what} are sent again" if has_rows else "All its rows were done by then")


def _keep(kept: KeptRows, incoming: Iterable[Chunk]) -> Iterator[Chunk]:
    """The rows, each chunk kept as it passes."""
    for chunk in incoming:
        kept.add(chunk)
        yield chunk


def _peek(chunks: Iterator[Chunk]) -> tuple[Iterator[Chunk], bool]:
    """The same chunks, and whether there are any."""
    for first in chunks:
        return itertools.chain([first], chunks), True
    return chunks, False


def _with_first(error: ScriptError, state: StreamState) -> ScriptError:
    """The error of the last attempt, told after that of the first: later ones may fail of what the first has left."""
    if state.failures > 1 and state.first_error != str(error)[:_ERROR_CHARS]:
        error.args = (
            f"{state.first_error}\nThat was the first of {state.failures} attempts that got no further. The last one: "
            f"{error}",
        )
    return error

"""Feeds a group, which is whole, to a run of the `stream` feed: what that feed is on bounded input."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.errors import ScriptDied, ScriptRaised
from beam_tfscript.runtime import wire
from beam_tfscript.stream_runs import StreamRuns
from beam_tfscript.worker.session import NeverStarted

_LOGGER = logging.getLogger(__name__)


class GroupStream:
    """Feeds the rows of one group, which is whole, to a run of the `stream` feed."""

    def __init__(self, runs: StreamRuns, *, side_inputs: dict[str, Any]):
        self._side_inputs = side_inputs
        self._runs = runs
        self._options = runs.staged.options

    def frames(
        self, shard: int, window: tuple[float, float] | None, chunks: Iterator[tuple[int, int, bytes]], keep: Any
    ) -> Iterator[wire.Frame]:
        """Yields what the run gives.

        Args:
          shard, window: whose rows they are.
          chunks: `(shard, count, payload)` each; iterated once.
          keep: keeps chunks for a replay (`add`, `read`).

        Raises:
          ScriptError: the run failed as often as it may, or in a way that would come again.
        """
        failures = 0
        unsent: tuple[int, int, bytes] | None = None
        for attempt in itertools.count(1):
            run = self._runs.start(shard, window, attempt, wait=True, side_inputs=self._side_inputs)
            assert run is not None
            sent_before = -1
            try:
                for chunk in self._chunks_of(attempt, chunks, unsent, keep):
                    sent_before, unsent = run.sent, chunk
                    yield from run.feed(*chunk)
                    unsent = None
                yield from run.finish()
                self._runs.count_unread(run)
                self._runs.end(run)
                return
            except (ScriptDied, ScriptRaised, NeverStarted) as error:
                failures = 1 if run.acked and not self._options.replay else failures + 1
                lost = run.unacked
                unsent = unsent if run.sent == sent_before else None
                explained = self._runs.explain(run, error)
                assert self._options.max_attempts is not None
                if failures >= self._options.max_attempts:
                    raise explained from error
                metrics.add("rows_lost", 0 if self._options.replay else lost)
                _LOGGER.warning("%s\n%s", explained, _consequence(self._options.replay, lost))
            except BaseException:
                self._runs.end(run)
                raise

    def _chunks_of(
        self, attempt: int, chunks: Iterator[tuple[int, int, bytes]], unsent: tuple[int, int, bytes] | None, keep: Any
    ) -> Iterator[tuple[int, int, bytes]]:
        """What an attempt is fed: with replay all from the first, else what the one before was not sent."""
        if self._options.replay:
            if attempt > 1:
                yield from keep.read()
        elif unsent is not None:
            yield unsent
        for chunk in chunks:
            if self._options.replay:
                keep.add(chunk)
            yield chunk


def _consequence(replay: bool | None, lost: int) -> str:
    return "Its rows are replayed." if replay else f"{lost} rows that it had not done are lost (replay=False)."

"""Brings the run of a (shard, window) on, bundle by bundle: found again by its identity, replayed where it is gone."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Iterator
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.errors import ScriptDied, ScriptRaised
from beam_tfscript.run_place import RunPlace
from beam_tfscript.runtime import wire
from beam_tfscript.stream_runs import AnyRun, StreamRuns
from beam_tfscript.worker.session import NeverStarted

_LOGGER = logging.getLogger(__name__)


class ShardStream:
    """Brings a (shard, window) on by one bundle, from its state.

    Args:
      runs: starts and ends runs.
      stage: names the stage of the pipeline, whose shards and windows are its own.
    """

    def __init__(self, runs: StreamRuns, stage: str):
        self._runs = runs
        self._stage = stage
        self._options = runs.staged.options
        self._live = runs.staged.pool.live_runs

    def step(
        self,
        place: RunPlace,
        chunks: Any,
        chunk: tuple[int, int, bytes] | None,
        *,
        shard: int,
        window: tuple[float, float] | None,
        is_end: bool = False,
    ) -> Iterator[wire.Frame]:
        """Gives a run its rows and yields what it has given.

        Args:
          place: where the run stands; brought on.
          chunks: state of chunks, `(shard, count, payload)` each: all of the window's with `replay`, else those that
            wait.
          chunk: rows that have come.
          shard, window: whose they are.
          is_end: whether no more come; the run is over when this returns.

        Raises:
          ScriptError: the run failed as often as it may, or in a way that would come again.
        """
        with self._live.guard((self._stage, shard, window)):
            if place.has_stopped:
                metrics.add("rows_unread", chunk[1] if chunk else 0)
            else:
                yield from self._step(place, chunks, chunk, shard, window, is_end)

    def may_give_more(self, place: RunPlace, chunks: Any) -> bool:
        """Whether there may be something without more rows: outputs, or a run that waits for its place."""
        run = None if place.run is None else self._live.find(place.run)
        if run is not None:
            return run.may_give_more
        return not place.has_stopped and not _is_empty(chunks)

    def _step(
        self,
        place: RunPlace,
        chunks: Any,
        chunk: tuple[int, int, bytes] | None,
        shard: int,
        window: tuple[float, float] | None,
        is_end: bool,
    ) -> Iterator[wire.Frame]:
        run = self._find(place)
        fresh = chunk if run is not None and not self._options.replay else None
        if chunk is not None and fresh is None:
            chunks.add(chunk)
        to_feed = None if run is None else [chunk] if chunk is not None else []
        while True:
            if run is None:
                if _is_empty(chunks):
                    return
                run, to_feed = self._begin(place, shard, window, is_end), None
                if run is None:
                    return
            fed = sent_before = 0
            try:
                # A run that has died since the last bundle is found here, before rows are lost to it.
                yield from run.collect()
                for part in chunks.read() if to_feed is None else to_feed:
                    fed, sent_before = fed + 1, run.sent
                    yield from run.feed(*part)
                if is_end:
                    yield from run.finish()
                break
            except (ScriptDied, ScriptRaised, NeverStarted) as error:
                self._keep_unfed(chunks, to_feed, fed - (run.sent == sent_before))
                self._fail(run, place, error)
                run = None
            except BaseException:
                self._forget(place)
                self._runs.end(run)
                raise
        self._note(run, place)
        if place.has_stopped or (not self._options.replay and to_feed is None):
            chunks.clear()

    def _find(self, place: RunPlace) -> AnyRun | None:
        """The run that the state speaks of, if it is here and has seen what the state says."""
        if place.run is None:
            return None
        run = self._live.find(place.run)
        if run is not None and run.turn == place.turn:
            return run
        if run is not None:
            # A bundle that this run has seen was taken back.
            self._live.remove(place.run)
            self._runs.end(run)
        if not self._options.replay:
            metrics.add("rows_lost", place.sent - place.acked)
        place.run, place.attempt = None, place.attempt + 1
        place.sent = place.acked = 0
        return None

    def _begin(self, place: RunPlace, shard: int, window: tuple[float, float] | None, is_end: bool) -> AnyRun | None:
        """Starts a run if there is a place for it; one that must end now may take a place more."""
        serves = (self._stage, shard, window)
        for forgotten in self._live.take_serving(serves):
            # The runner went back to a state from before this run.
            self._runs.end(forgotten)
        run = self._runs.start(shard, window, place.attempt, wait=is_end, extra=int(is_end))
        if run is not None:
            place.run = uuid.uuid4().hex
            place.turn = 0
            run.serves = serves
            self._live.add(place.run, run)
        return run

    def _fail(self, run: AnyRun, place: RunPlace, error: ScriptDied | ScriptRaised | NeverStarted) -> None:
        """Counts a failed attempt; raises if it was the last."""
        lost = run.unacked
        if run.acked > place.furthest:
            place.failures = 0
            place.furthest = run.acked if self._options.replay else 0
        self._forget(place)
        explained = self._runs.explain(run, error)
        place.attempt += 1
        place.failures += 1
        assert self._options.max_attempts is not None
        if place.failures >= self._options.max_attempts:
            raise explained
        if self._options.replay:
            _LOGGER.warning("%s\nThe rows of its window are replayed.", explained)
            return
        metrics.add("rows_lost", lost)
        _LOGGER.warning("%s\n%d rows that it had not done are lost (replay=False).", explained, lost)

    def _keep_unfed(self, chunks: Any, to_feed: list | None, fed: int) -> None:
        """Without replay: of the chunks that were to be fed, those that were not sent wait for the next run."""
        if self._options.replay:
            return
        fed = max(fed, 0)
        unfed = list(itertools.islice(chunks.read() if to_feed is None else iter(to_feed), fed, None))
        chunks.clear()
        for chunk in unfed:
            chunks.add(chunk)

    def _forget(self, place: RunPlace) -> None:
        if place.run is not None:
            self._live.remove(place.run)
        place.run = None
        place.sent = place.acked = 0

    def _note(self, run: AnyRun, place: RunPlace) -> None:
        """Remembers in the state what this bundle has done."""
        place.turn = run.turn = place.turn + 1
        place.sent, place.acked = run.sent, run.acked
        if run.is_done:
            place.has_stopped = run.has_stopped
            if place.has_stopped:
                self._runs.count_unread(run)
            self._forget(place)
            self._runs.end(run)


def _is_empty(chunks: Any) -> bool:
    return not any(True for _ in chunks.read())

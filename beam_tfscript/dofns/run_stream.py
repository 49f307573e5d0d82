"""Bundles of the `stream` feed: state and timers on unbounded input, groups on bounded input."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder, TupleCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.script_dofns import RunsScript, bounds_of, in_window
from beam_tfscript.dofns.timers import set_holding
from beam_tfscript.feeds.bounded_stream import GroupStream
from beam_tfscript.feeds.demultiplexer import Output, Rows
from beam_tfscript.feeds.stream_runs import StreamRuns
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.feeds.unbounded_stream import ShardStream
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.options.train_options import TrainOptions


class RunsStream(RunsScript):
    """Gives out the outputs of runs of the `stream` feed."""

    def setup(self) -> None:
        """Make the starter of runs."""
        super().setup()
        self._runs = StreamRuns(self._staged, training=self._training())

    def _training(self) -> TrainOptions | None:
        """Return the training's arguments; None of runs that train nothing."""
        return None

    def _elements_of(
        self, outputs: Generator[Output, None, None], window: Any, timestamp: Any, state: StreamState
    ) -> Iterator[Any]:
        """Yield the elements for outputs of runs; `state` is of the rows that the runs were fed.

        The outputs are closed with this generator: as long as they are open, other bundles cannot advance the run.
        """
        with contextlib.closing(outputs):
            for output in outputs:
                for element in self._convert(output, window, state):
                    yield in_window(element, window, timestamp)

    def _convert(self, output: Output, window: Any, state: StreamState) -> Iterator[Any]:
        """Yield the elements for one output."""
        if isinstance(output, Rows):
            yield from self._decode(output.records)


class StreamShards(RunsStream):
    """(shard, chunk) of unbounded input -> the rows that the runs write as they go on.

    A run's positions are in Beam's state, which outlives a bundle. Its process is found by the identity in that state.
    """

    ROWS = BagStateSpec("rows", TupleCoder((VarIntCoder(), VarIntCoder(), VarIntCoder(), VarIntCoder(), BytesCoder())))
    STATE = ReadModifyWriteStateSpec("state", BytesCoder())
    WINDOW_END = TimerSpec("window_end", TimeDomain.WATERMARK)
    POLL = TimerSpec("poll", TimeDomain.REAL_TIME)

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None):
        super().__init__(options, bad)
        self._name = uuid.uuid4().hex
        # The rows of a cluster have one key, whatever their shard.
        self._shards = {key: 0 if options.cluster else shard for shard, key in enumerate(options.shard_keys)}

    def process(
        self,
        element: tuple[int, tuple[int, int, bytes]],
        window: Any = beam.DoFn.WindowParam,
        timestamp: Any = beam.DoFn.TimestampParam,
        rows: Any = beam.DoFn.StateParam(ROWS),
        stored: Any = beam.DoFn.StateParam(STATE),
        window_end: Any = beam.DoFn.TimerParam(WINDOW_END),
        poll: Any = beam.DoFn.TimerParam(POLL),
    ) -> Iterator[Any]:
        """Give a run the rows of one chunk, and give out its outputs by now."""
        key, chunk = element
        state = StreamState.decode(stored.read())
        if state.newest_micros is None:
            # At `window.end` runners take the timer for one of the time after the window, and lose its outputs.
            window_end.set(window.max_timestamp())
            state.nonce = state.nonce or (uuid.uuid4().hex if isinstance(window, GlobalWindow) else "")
        state.newest_micros = max(state.newest_micros or timestamp.micros, timestamp.micros)
        stream = self._stream(key, window, state, rows)
        yield from self._give_out(stream.step(chunk), window, state)
        stored.write(state.encode())
        self._arm(poll, stream, state)

    @on_timer(POLL)
    def give_out_pending(
        self,
        key: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        rows: Any = beam.DoFn.StateParam(ROWS),
        stored: Any = beam.DoFn.StateParam(STATE),
        poll: Any = beam.DoFn.TimerParam(POLL),
    ) -> Iterator[Any]:
        """Give out outputs that have come since; start a run that had to wait for a process."""
        before = stored.read()
        if before is not None:
            state = StreamState.decode(before)
            stream = self._stream(key, window, state, rows)
            yield from self._give_out(stream.poll(), window, state)
            stored.write(state.encode())
            self._arm(poll, stream, state)

    @on_timer(WINDOW_END)
    def end_window(
        self,
        key: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        rows: Any = beam.DoFn.StateParam(ROWS),
        stored: Any = beam.DoFn.StateParam(STATE),
        poll: Any = beam.DoFn.TimerParam(POLL),
    ) -> Iterator[Any]:
        """End the run and give out its last outputs; rows that come later start a new one."""
        poll.clear()
        before = stored.read()
        if before is not None:
            state = StreamState.decode(before)
            stream = self._stream(key, window, state, rows)
            # Where nothing was pending, nothing has held the watermark back: by now it may be anywhere.
            is_late = isinstance(window, GlobalWindow) and not stream.may_give_more
            yield from self._give_out(stream.step(None, is_end=True), window, state, at_end=is_late)
            rows.clear()
            self._end(stored, state)
            self._runs.forget_window(bounds_of(window))

    def _stream(self, key: int, window: Any, state: StreamState, rows: Any) -> ShardStream:
        shard = self._shards[key]
        return ShardStream(self._runs, self._name, shard=shard, window=bounds_of(window), state=state, bag=rows)

    def _give_out(
        self, outputs: Generator[Output, None, None], window: Any, state: StreamState, *, at_end: bool = False
    ) -> Iterator[Any]:
        """Yield elements at the window's end; in the global window at the newest row's timestamp, unless `at_end`."""
        timestamp = window.max_timestamp()
        if isinstance(window, GlobalWindow) and not at_end:
            timestamp = Timestamp(micros=state.newest_micros or 0)
        return self._elements_of(outputs, window, timestamp, state)

    def _end(self, stored: Any, state: StreamState) -> None:
        """Forget the window, whose run is over."""
        stored.clear()

    def _arm(self, poll: Any, stream: ShardStream, state: StreamState) -> None:
        """Set the poll timer if there may be outputs, and only then: runners wait for armed timers."""
        if stream.may_give_more:
            # Outputs will be at the newest row's timestamp: the watermark must not pass it before.
            due = Timestamp.of(time.time() + self._options.poll_interval_s)
            set_holding(poll, due, Timestamp(micros=state.newest_micros or 0))


class StreamGroups(RunsStream):
    """(shard, its chunks) of bounded input -> the rows that one run writes while it is fed them."""

    def process(
        self,
        element: tuple[int, Iterable[tuple[int, int, bytes]]],
        window: Any = beam.DoFn.WindowParam,
        side_chunks: Any = None,
    ) -> Iterator[Any]:
        """Feed one shard's rows of one window to a run."""
        key, chunks = element
        shard = 0 if self._options.cluster else self._options.shard_keys.index(key)
        with (
            tempfile.TemporaryDirectory(prefix="group-", dir=self._staged.pool.scratch()) as directory,
            self._side_inputs(window, side_chunks) as side_inputs,
        ):
            stream = GroupStream(
                self._runs,
                shard=shard,
                window=bounds_of(window),
                side_inputs=side_inputs,
                path=os.path.join(directory, "rows"),
            )
            yield from self._run(stream, chunks, window)
        self._runs.forget_window(bounds_of(window))

    def _run(self, stream: GroupStream, chunks: Iterable[tuple[int, int, bytes]], window: Any) -> Iterator[Any]:
        return self._elements_of(stream.outputs(chunks), window, window.max_timestamp(), stream.state)

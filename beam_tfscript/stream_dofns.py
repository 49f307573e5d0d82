"""The life of a bundle in the `stream` feed: state and timers on unbounded input, groups on bounded input."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder, TupleCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from beam_tfscript import metrics
from beam_tfscript.bad_records import BadRecords
from beam_tfscript.dofn_setup import RunsScript, bounds_of, in_window
from beam_tfscript.group_stream import GroupStream
from beam_tfscript.options import ScriptOptions
from beam_tfscript.run_place import RunPlace
from beam_tfscript.runtime import wire
from beam_tfscript.shard_stream import ShardStream
from beam_tfscript.stream_runs import StreamRuns
from beam_tfscript.trained_model import TrainOptions
from beam_tfscript.worker.spool import OutputSpool


class RunsStream(RunsScript):
    """Gives out what runs of the `stream` feed write."""

    def setup(self) -> None:
        """Makes what starts runs."""
        super().setup()
        self._runs = StreamRuns(self._staged, training=self._training())

    def _training(self) -> TrainOptions | None:
        """Where a training's model and checkpoints go; None of runs that train nothing."""
        return None

    def _give_out(self, frames: Iterable[wire.Frame], window: Any, timestamp: Any) -> Iterator[Any]:
        for frame in frames:
            if frame.kind == wire.METRICS:
                metrics.add_from_script(frame.json())
            elif frame.kind == wire.EXAMPLES:
                for output in self._decode(frame.records()):
                    yield in_window(output, window, timestamp)


class StreamShards(RunsStream):
    """(shard, chunk) of unbounded input -> the rows that the runs write as they go on.

    What must outlive a bundle is in Beam's state; the process is not, and is found again by the identity that is.
    """

    CHUNKS = BagStateSpec("chunks", TupleCoder((VarIntCoder(), VarIntCoder(), BytesCoder())))
    PLACE = ReadModifyWriteStateSpec("place", BytesCoder())
    WINDOW_END = TimerSpec("window_end", TimeDomain.WATERMARK)
    POLL = TimerSpec("poll", TimeDomain.REAL_TIME)

    def __init__(self, options: ScriptOptions, bad: BadRecords | None):
        super().__init__(options, bad)
        self._name = uuid.uuid4().hex

    def setup(self) -> None:
        """Makes what brings runs on."""
        super().setup()
        self._stream = ShardStream(self._runs, self._name)

    def process(
        self,
        element: tuple[int, tuple[int, int, bytes]],
        window: Any = beam.DoFn.WindowParam,
        timestamp: Any = beam.DoFn.TimestampParam,
        chunks: Any = beam.DoFn.StateParam(CHUNKS),
        place_state: Any = beam.DoFn.StateParam(PLACE),
        window_end: Any = beam.DoFn.TimerParam(WINDOW_END),
        poll: Any = beam.DoFn.TimerParam(POLL),
    ) -> Iterator[Any]:
        """Gives a run the rows of one chunk, and gives out what it has written by now."""
        shard, chunk = element
        state = place_state.read()
        if state is None:
            # At `window.end` runners take the timer for one of the time after the window, and lose its outputs.
            window_end.set(window.max_timestamp())
        place = RunPlace.decode(state)
        place.newest_micros = max(place.newest_micros or timestamp.micros, timestamp.micros)
        yield from self._bring_on(shard, window, place, chunks, chunk)
        place_state.write(place.encode())
        self._arm(poll, place, chunks)

    @on_timer(POLL)
    def give_out_pending(
        self,
        shard: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        chunks: Any = beam.DoFn.StateParam(CHUNKS),
        place_state: Any = beam.DoFn.StateParam(PLACE),
        poll: Any = beam.DoFn.TimerParam(POLL),
    ) -> Iterator[Any]:
        """Gives out what has been written since; starts a run that had to wait for its place."""
        state = place_state.read()
        if state is not None:
            place = RunPlace.decode(state)
            yield from self._bring_on(shard, window, place, chunks, None)
            place_state.write(place.encode())
            self._arm(poll, place, chunks)

    @on_timer(WINDOW_END)
    def end_window(
        self,
        shard: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        chunks: Any = beam.DoFn.StateParam(CHUNKS),
        place_state: Any = beam.DoFn.StateParam(PLACE),
        poll: Any = beam.DoFn.TimerParam(POLL),
    ) -> Iterator[Any]:
        """Ends the run and gives out the rest; rows that come later start a new one."""
        poll.clear()
        state = place_state.read()
        if state is not None:
            yield from self._bring_on(shard, window, RunPlace.decode(state), chunks, None, is_end=True)
            chunks.clear()
            place_state.clear()
            self._runs.forget_window(bounds_of(window))

    def _bring_on(
        self, shard: int, window: Any, place: RunPlace, chunks: Any, chunk: Any, *, is_end: bool = False
    ) -> Iterator[Any]:
        frames = self._stream.step(place, chunks, chunk, shard=shard, window=bounds_of(window), is_end=is_end)
        is_global = isinstance(window, GlobalWindow)
        newest = Timestamp(micros=place.newest_micros or 0)
        return self._give_out(frames, window, newest if is_global else window.max_timestamp())

    def _arm(self, poll: Any, place: RunPlace, chunks: Any) -> None:
        """Looks again in a while where there may be something, and only there: runners wait for armed timers."""
        if self._stream.may_give_more(place, chunks):
            poll.set(Timestamp.of(time.time() + self._options.poll_interval_s))


class StreamGroups(RunsStream):
    """(shard, its chunks) of bounded input -> the rows that one run writes while it is fed them."""

    def process(
        self,
        element: tuple[int, Iterable[tuple[int, int, bytes]]],
        window: Any = beam.DoFn.WindowParam,
        sides: Any = None,
    ) -> Iterator[Any]:
        """Feeds one shard's rows of one window to a run."""
        shard, chunks = element
        with tempfile.TemporaryDirectory(prefix="group-", dir=self._staged.pool.scratch()) as directory:
            keep = _ChunkFile(os.path.join(directory, "chunks"))
            stream = GroupStream(self._runs, side_inputs=self._side_inputs(window, sides))
            frames = stream.frames(shard, bounds_of(window), iter(chunks), keep)
            yield from self._give_out(frames, window, window.max_timestamp())
        self._runs.forget_window(bounds_of(window))


class _ChunkFile:
    """The chunks of a group, for a replay: a group may be larger than memory, and is iterated once."""

    def __init__(self, path: str):
        self._spool = OutputSpool(path)
        self._shards: list[int] = []

    def add(self, chunk: tuple[int, int, bytes]) -> None:
        """Keeps a chunk."""
        shard, count, payload = chunk
        self._shards.append(shard)
        self._spool.extend([wire.Frame(wire.ROWS, count, payload)])

    def read(self) -> Iterator[tuple[int, int, bytes]]:
        """The chunks again."""
        if self._shards:
            for shard, frame in zip(self._shards, self._spool.reports()):
                yield shard, frame.count, frame.payload

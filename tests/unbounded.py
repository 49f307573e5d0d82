"""An unbounded source of planned events, on any engine, and the outputs of a script behind it.

In go events: rows, watermarks, pauses. The bundle-based engine is given a `TestStream` of them, where each event waits
for the end of all that the previous one caused. Engines behind a job server are given a splittable DoFn. It makes one
event after the other, some time apart, and goes on behind its last checkpoint after a failure.
"""

from __future__ import annotations

import collections
import glob
import os
import signal
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import GlobalWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from tests.running import Runner

OUTPUT = "id string, place bigint, run string, pid bigint, shard bigint, attempt bigint, run_window string"
# How long a script may take to come up.
_START_S = 60.0
# Between two events of the splittable DoFn: time for a bundle to pass.
_STEP_S = 0.25


class Rows(NamedTuple):
    """Rows come: `id` and timestamp are the same number."""

    seconds: tuple[float, ...]


class Watermark(NamedTuple):
    """The watermark passes to a time."""

    seconds: float


class Pause(NamedTuple):
    """Nothing comes for a while, or until there has been a file for a second, if that is earlier."""

    seconds: float
    until: str = ""


def rows(*seconds: float) -> Rows:
    """Rows at these times."""
    return Rows(seconds)


class Events(beam.PTransform):
    """The source.

    Args:
      engine: name of the engine.
      events: what happens, in order; then the input ends.
    """

    def __init__(self, engine: str, events: Sequence[Any]):
        super().__init__()
        self._engine = engine
        self._events = list(events)

    def expand(self, pipeline):
        if self._engine == "bundle_based":
            return pipeline | _test_stream(self._events)
        events = self._events
        impulse = pipeline | beam.Impulse() | beam.Map(lambda _: _schedule(events))
        return impulse | beam.ParDo(_Happen()).with_output_types(dict)


def _test_stream(events: Iterable[Any]) -> TestStream:
    stream = TestStream().advance_watermark_to(-1000)
    # Timers are set by the clock on the wall, and this runner has one of its own.
    stream = stream.advance_processing_time(int(time.time()))
    for event in events:
        if isinstance(event, Rows):
            stream = stream.add_elements([TimestampedValue({"id": f"{at:g}"}, at) for at in event.seconds])
        elif isinstance(event, Watermark):
            stream = stream.advance_watermark_to(event.seconds)
        else:
            stream = stream.advance_processing_time(event.seconds)
    return stream.advance_watermark_to_infinity()


class _Due(NamedTuple):
    """An event with its time: what a runner is asked to wait, it may not wait."""

    event: Any
    time_s: float
    until: str

    def wait_s(self):
        now = time.time()
        if self.until and os.path.exists(self.until) and os.path.getmtime(self.until) + 1 < now:
            return 0.0
        return max(0.0, self.time_s - now)


def _schedule(events: Sequence[Any]) -> list[_Due]:
    due_s, until, schedule = time.time(), "", []
    for event in events:
        schedule.append(_Due(event, due_s, until))
        is_pause = isinstance(event, Pause)
        due_s += event.seconds if is_pause else _STEP_S
        until = event.until if is_pause else ""
    return schedule


class _EventRange(beam.transforms.core.RestrictionProvider):
    """All events, one after the other."""

    def initial_restriction(self, events):
        return OffsetRange(0, len(events))

    def create_tracker(self, restriction):
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, events, restriction):
        return restriction.size()

    def truncate(self, events, restriction):
        return None


_TRACKER = beam.DoFn.RestrictionParam(_EventRange())
_WATERMARK = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())


class _Happen(beam.DoFn):
    """One event a call; the others are deferred."""

    @beam.DoFn.unbounded_per_element()
    def process(self, events, tracker=_TRACKER, watermark=_WATERMARK):
        at = tracker.current_restriction().start
        if at < len(events) and (wait_s := min(events[at].wait_s(), _STEP_S)) > 0:
            # A runner that comes back at once shall not spin.
            time.sleep(min(wait_s, 0.05))
            tracker.defer_remainder(Duration(wait_s))
            return
        if not tracker.try_claim(at):
            return
        event = events[at].event
        if isinstance(event, Rows):
            for second in event.seconds:
                yield TimestampedValue({"id": f"{second:g}"}, second)
        elif isinstance(event, Watermark):
            watermark.set_watermark(Timestamp(event.seconds))
        tracker.defer_remainder(Duration(0))


class Streamed:
    """Outputs of a script on unbounded input.

    Attributes:
      rows: the script's rows, as dicts with `window` (Beam's), `timestamp` and `seen` (when, in seconds) added; in the
        order of `seen`.
      counted: window -> rows that a GroupByKey has counted, of all panes.
    """

    def __init__(self, outputs: dict[str, list[Any]]):
        self.rows = sorted(
            ({**output.row, "window": output.window, "timestamp": output.timestamp} for output in outputs["rows"]),
            key=lambda row: row["seen"],
        )
        self.counted: collections.Counter[Any] = collections.Counter()
        for output in outputs["counted"]:
            self.counted[output.window] += output.row

    def ids(self, **places: Any) -> list[float]:
        """The input rows that came back, in order, as often as they did; of those outputs that are at these places."""
        return sorted(float(row["id"]) for row in self.at(**places) if row["id"] != "end")

    def at(self, **places: Any) -> list[dict[str, Any]]:
        """The outputs whose values are these."""
        return [row for row in self.rows if all(row[name] == value for name, value in places.items())]

    def runs(self) -> list[list[dict[str, Any]]]:
        """The outputs of each run, in the script's order."""
        runs = collections.defaultdict(list)
        for row in self.rows:
            runs[row["run"]].append(row)
        return [sorted(run, key=lambda row: row["place"]) for run in runs.values()]


class _Outputs(NamedTuple):
    rows: Any
    counted: Any


class _Streaming(beam.PTransform):
    def __init__(self, engine: str, events: Sequence[Any], transform: Any, before: Any, after: Any):
        super().__init__()
        self._parts = engine, events, transform, before, after

    def expand(self, pipeline):
        engine, events, transform, before, after = self._parts
        source = pipeline | Events(engine, events)
        rows = source | "Before" >> before | transform
        rows = rows | "Seen" >> beam.Map(lambda row: {**row._asdict(), "seen": time.time()})
        if after is not None:
            rows = rows | "After" >> after
        if isinstance(rows.windowing.windowfn, GlobalWindows):
            return _Outputs(rows, rows | "None" >> beam.Filter(lambda row: False))
        counted = (
            rows
            | "Key" >> beam.Map(lambda row: (0, row["id"]))
            | beam.GroupByKey()
            | "Count" >> beam.MapTuple(lambda key, ids: len(list(ids)))
        )
        return _Outputs(rows, counted)


def run_stream(
    runner: Runner, events: Sequence[Any], transform: Any, before: Any, *, after: Any = None, options: Any = ()
) -> Streamed:
    """Runs a script on unbounded input.

    Args:
      runner: on which engine.
      events: what the source does.
      transform: the script; its outputs are as `OUTPUT` says.
      before: a transform between the source and the script, such as `WindowInto`.
      after: one behind the script, which is given dicts.
      options: more pipeline options.
    """
    pipeline = _Streaming(runner.engine, events, transform, before, after)
    return Streamed(runner.outputs(pipeline, options=["--streaming", *options]))


class FailOnce(beam.DoFn):
    """Passes rows on, but fails the first time that a certain row passes."""

    def __init__(self, row: str, marker: str):
        self._row = row
        self._marker = marker

    def process(self, row):
        if row["id"] == self._row and not os.path.exists(self._marker):
            with open(self._marker, "w"):
                raise OSError(f"row {self._row} is not taken the first time")
        yield row


class KillOnRow(beam.DoFn):
    """Passes rows on, and kills the processes that a script has noted in a directory when a certain row passes."""

    def __init__(self, row: str, directory: str):
        self._row = row
        self._directory = directory

    def process(self, row):
        if row["id"] == self._row:
            for path in self._wait_for_notes():
                os.unlink(path)
                pid = int(os.path.basename(path))
                os.kill(pid, signal.SIGKILL)
                # Without taking its end away from whom it is a child of, which is this process.
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        yield row

    def _wait_for_notes(self):
        deadline = time.monotonic() + _START_S
        while not (paths := glob.glob(os.path.join(self._directory, "*"))):
            assert time.monotonic() < deadline, "no process has noted itself"
            time.sleep(0.05)
        return paths

"""The `stream` feed on unbounded input: what it does with state, timers and processes, one bundle at a time.

The stage is called as a runner calls it, with a state and timers that can be looked at and taken back; the processes
are real. What a whole pipeline gives is in test_conformance_unbounded.py.
"""

from __future__ import annotations

import os
import signal
import time

import apache_beam as beam
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, GlobalWindow, GlobalWindows, IntervalWindow, Sessions
from apache_beam.utils.timestamp import Timestamp

from beam_tfscript import RunTFScript
from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError, FeedError, ScriptRaised
from beam_tfscript.runtime import wire
from beam_tfscript.stream_dofns import StreamShards
from beam_tfscript.worker.pool import get_pool
from tests.running import script
from tests.unbounded import OUTPUT

WINDOW = IntervalWindow(0, 10)
_ENCODER = RowEncoder(Schema.parse("id string"))


class Value:
    """A value in state."""

    def __init__(self):
        self.value = None

    def read(self):
        return self.value

    def write(self, value):
        self.value = value

    def clear(self):
        self.value = None


class Bag:
    """A bag in state."""

    def __init__(self):
        self.values = []

    def read(self):
        return list(self.values)

    def add(self, value):
        self.values.append(value)

    def clear(self):
        self.values = []


class Timer:
    """A timer, and how often it was set."""

    def __init__(self):
        self.due = None
        self.count = 0

    def set(self, due):
        self.due = due
        self.count += 1

    def clear(self):
        self.due = None


class Shard:
    """One key of the stage, in one window."""

    def __init__(self, dofn, shard=0, window=WINDOW):
        self.dofn, self.shard, self.window = dofn, shard, window
        self.chunks, self.place, self.window_end, self.poll = Bag(), Value(), Timer(), Timer()
        self.outputs = []

    def bring(self, *names, at=1.0):
        """A bundle with rows."""
        records = _ENCODER.encode([{"id": name} for name in names], keep_going=False).examples
        chunk = self.shard, (self.shard, len(records), wire.pack_records(records))
        return self._take(
            self.dofn.process(chunk, self.window, Timestamp(at), self.chunks, self.place, self.window_end, self.poll)
        )

    def fire_poll(self):
        """The poll timer is due."""
        self.poll.due = None
        return self._take(self.dofn.give_out_pending(self.shard, self.window, self.chunks, self.place, self.poll))

    def fire_end(self):
        """The window timer is due."""
        self.window_end.due = None
        return self._take(self.dofn.end_window(self.shard, self.window, self.chunks, self.place, self.poll))

    def poll_until(self, *names):
        """Polls for as long as a timer is armed, until these rows are out."""
        deadline = time.monotonic() + 60
        while not set(names) <= {row["id"] for row in self.outputs}:
            assert self.poll.due is not None and time.monotonic() < deadline, self.outputs
            time.sleep(0.05)
            self.fire_poll()

    def ids(self):
        """The rows that came out."""
        return [row["id"] for row in self.outputs]

    def _take(self, outputs):
        got = []
        for output in outputs:
            assert output.windows == (self.window,)
            assert output.timestamp <= self.window.max_timestamp()
            got.append({**output.value._asdict(), "timestamp": output.timestamp})
        self.outputs += got
        return [row["id"] for row in got]


@pytest.fixture
def stage():
    """Makes stages, and tears them down."""
    made = []

    def make(entry="trace", *, has_end=True, **arguments):
        transform = RunTFScript(
            script("streams.py"), OUTPUT, input_schema="id string", entry=entry, feed="stream", **arguments
        )
        dofn = StreamShards(transform._options.for_feed("stream", has_end=has_end), None)
        dofn.setup()
        made.append(dofn)
        return dofn

    yield make
    for dofn in made:
        dofn.teardown()


def test_timers_are_armed_only_while_outputs_are_pending(stage):
    shard = Shard(stage())
    shard.bring("a")
    assert shard.window_end.due == WINDOW.max_timestamp() and shard.window_end.count == 1
    shard.poll_until("a")
    assert shard.poll.due is None
    shard.bring("b")
    assert shard.window_end.count == 1
    shard.poll_until("b")
    assert shard.poll.due is None
    shard.bring("c")
    shard.fire_end()
    assert shard.poll.due is None and shard.ids() == ["a", "b", "c", "end"]
    assert shard.chunks.values == [] and shard.place.value is None
    assert {row["timestamp"] for row in shard.outputs} == {WINDOW.max_timestamp()}


def test_polls_end_where_tensorflow_pulls_the_rows_and_gives_nothing_more(stage):
    shard = Shard(stage("trace_records"))
    shard.bring("a")
    shard.poll_until("a")
    for _ in range(10):
        shard.fire_poll() if shard.poll.due is not None else None
    assert shard.poll.due is None
    assert shard.fire_end() == ["end"]


def test_rows_after_a_pause_longer_than_the_feed_timeout_are_read(stage):
    shard = Shard(stage("trace_records", feed_timeout=3))
    shard.bring("a")
    shard.poll_until("a")
    time.sleep(3.1)
    # The script is asked where it is, having nothing to read, and is given rows before it has answered.
    shard.bring("b")
    shard.poll_until("b")
    assert shard.fire_end() == ["end"]


def test_late_rows_start_another_run_with_a_timer_of_its_own(stage):
    shard = Shard(stage())
    shard.bring("a")
    shard.fire_end()
    shard.bring("b")
    assert shard.window_end.count == 2
    shard.fire_end()
    assert shard.ids() == ["a", "end", "b", "end"]
    assert len({row["run"] for row in shard.outputs}) == 2 and {row["attempt"] for row in shard.outputs} == {1}


def test_rows_are_replayed_to_a_run_that_has_seen_what_the_state_has_not(stage):
    shard = Shard(stage(user_params={"n": 1}))
    shard.bring("a")
    before = shard.place.value, list(shard.chunks.values)
    shard.bring("b")
    shard.poll_until("a", "b")
    shard.place.value, shard.chunks.values = before[0], list(before[1])
    shard.bring("b")
    shard.fire_end()
    assert shard.ids()[2:] == ["a", "b", "end"] and shard.outputs[-1]["place"] == 2
    assert {row["attempt"] for row in shard.outputs} == {1, 2}


def test_run_that_the_state_has_forgotten_is_ended_when_another_takes_its_place(stage):
    dofn = stage(max_processes=1)
    shard = Shard(dofn)
    shard.bring("a")
    shard.poll_until("a")
    again = Shard(dofn)
    again.bring("a")
    again.poll_until("a")
    again.fire_end()
    assert again.ids() == ["a", "end"]
    assert shard.outputs[0]["pid"] != again.outputs[0]["pid"]


def test_runs_wait_in_state_for_a_place_and_a_timer_looks_for_it(stage):
    dofn = stage(max_processes=1)
    first, second = Shard(dofn, 0), Shard(dofn, 1)
    first.bring("a")
    begin = time.monotonic()
    assert second.bring("b") == [] and time.monotonic() - begin < 1
    assert second.poll.due is not None and second.chunks.values
    second.fire_poll()
    assert second.poll.due is not None
    first.fire_end()
    second.poll_until("b")
    second.fire_end()
    assert second.ids() == ["b", "end"] and second.outputs[0]["pid"] == first.outputs[0]["pid"]


def test_waiting_run_starts_at_the_latest_when_its_window_ends(stage):
    dofn = stage(max_processes=1)
    first, second = Shard(dofn, 0), Shard(dofn, 1)
    first.bring("a")
    second.bring("b")
    assert second.fire_end() == ["b", "end"]
    assert first.fire_end() == ["a", "end"]


def test_four_shards_in_ten_windows_share_two_processes(stage):
    dofn = stage(max_processes=2)
    shards = [
        Shard(dofn, shard, IntervalWindow(start, start + 10)) for start in range(0, 100, 10) for shard in range(4)
    ]
    for shard in shards:
        shard.bring(f"{shard.shard}")
    for shard in shards:
        shard.fire_end()
        assert shard.ids() == [f"{shard.shard}", "end"]
    assert len({row["pid"] for shard in shards for row in shard.outputs}) <= 3


def test_outputs_in_the_global_window_are_at_the_newest_row(stage):
    shard = Shard(stage(has_end=False), window=GlobalWindow())
    shard.bring("a", at=5)
    shard.poll_until("a")
    shard.bring("b", at=9)
    shard.bring("c", at=7)
    shard.fire_end()
    assert shard.outputs[0]["timestamp"] == 5
    assert [row["timestamp"] for row in shard.outputs[1:]] == [9, 9, 9]
    assert shard.chunks.values == []


def test_rows_that_were_not_done_are_lost_without_replay_and_the_others_are_not(stage, monkeypatch):
    lost = []
    monkeypatch.setattr("beam_tfscript.metrics.add", lambda name, n=1: lost.append(n) if name == "rows_lost" else None)
    shard = Shard(stage(replay=False, user_params={"n": 1}))
    shard.bring("a")
    shard.poll_until("a")
    pid = shard.outputs[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    shard.bring("b")
    shard.fire_end()
    assert shard.ids() == ["a", "b", "end"] and sum(lost) == 0
    assert shard.chunks.values == []


def test_last_outputs_before_a_stop_are_given_out(stage, monkeypatch):
    unread = []
    monkeypatch.setattr(
        "beam_tfscript.metrics.add", lambda name, n=1: unread.append(n) if name == "rows_unread" else None
    )
    shard = Shard(stage("stops_at", user_params={"id": "b"}))
    shard.bring("a", "b")
    shard.poll_until("a", "b", "end")
    assert shard.poll.due is None and shard.chunks.values == []
    shard.bring("c", "d")
    assert shard.fire_end() == [] and shard.ids() == ["a", "b", "end"]
    assert sum(unread) == 2


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("leaves_early", FeedError, "main returned, but"),
        ("raises_at", ScriptRaised, "ValueError: cannot take b"),
    ],
)
def test_script_that_cannot_go_on_is_told_in_its_own_lines(stage, tmp_path, entry, error, message):
    parameters = {"id": "b", "times": 99, "marks": str(tmp_path / "marks")}
    shard = Shard(stage(entry, user_params=parameters, max_attempts=1))
    with pytest.raises(error, match=message):
        shard.bring("a", "b")
        shard.poll_until("never")


def test_failures_count_only_where_a_run_gets_no_further(stage, tmp_path):
    """A window may be a day long: what has worked since the last death is no reason to give up."""
    shard = Shard(stage(max_attempts=2, user_params={"n": 1}))
    for name in "ab":
        shard.bring(name)
        shard.poll_until(name)
        pid = shard.outputs[-1]["pid"]
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    shard.fire_end()
    assert shard.ids()[-3:] == ["a", "b", "end"] and shard.outputs[-1]["attempt"] == 3


def test_run_outlives_its_dofn_and_a_pause_longer_than_the_idle_timeout(stage):
    dofn = stage(idle_timeout=0.2)
    shard = Shard(dofn)
    shard.bring("a")
    shard.poll_until("a")
    dofn.teardown()
    time.sleep(3)
    dofn.setup()
    shard.bring("b")
    shard.fire_end()
    assert shard.ids() == ["a", "b", "end"] and len({row["pid"] for row in shard.outputs}) == 1


def test_run_that_nobody_comes_back_to_is_ended(stage, monkeypatch):
    monkeypatch.setattr("beam_tfscript.worker.live_run.ABANDONED_AFTER_S", 1.0)
    dofn = stage()
    Shard(dofn).bring("a")
    dofn.teardown()
    # That nothing is left is asserted after every test.
    assert get_pool().live_runs._runs


class Endless(beam.PTransform):
    """Unbounded input in windows."""

    def __init__(self, window_fn):
        super().__init__()
        self._window_fn = window_fn

    def expand(self, pipeline):
        return pipeline | TestStream().advance_watermark_to_infinity() | beam.WindowInto(self._window_fn)


def test_merging_windows_are_refused_while_the_pipeline_is_built():
    transform = RunTFScript(script("streams.py"), OUTPUT, input_schema="id string", entry="trace")
    with pytest.raises(ArgumentError, match="Sessions, whose windows merge"):
        _ = beam.Pipeline() | Endless(Sessions(10)) | transform


@pytest.mark.parametrize("window_fn", [FixedWindows(10), GlobalWindows()])
def test_only_unbounded_input_gets_state_and_timers(window_fn):
    transform = RunTFScript(script("streams.py"), OUTPUT, input_schema="id string", entry="trace", feed="stream")
    assert _has_state(beam.Pipeline() | Endless(window_fn) | transform)
    bounded = beam.Pipeline() | beam.Create([{"id": "a"}]) | beam.WindowInto(window_fn)
    assert not _has_state(bounded | transform)


def test_unbounded_input_is_a_stream_by_default():
    transform = RunTFScript(script("streams.py"), OUTPUT, input_schema="id string", entry="trace")
    assert _has_state(beam.Pipeline() | Endless(FixedWindows(10)) | transform)


def _has_state(rows):
    proto = rows.pipeline.to_runner_api()
    payloads = [
        beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
        for transform in proto.components.transforms.values()
        if transform.spec.urn == beam.portability.common_urns.primitives.PAR_DO.urn
    ]
    return any(payload.state_specs or payload.timer_family_specs for payload in payloads)

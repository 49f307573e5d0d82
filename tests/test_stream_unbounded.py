"""The `stream` feed on unbounded input: what it does with state, timers and processes, one bundle at a time.

The stage is called as a runner calls it, with a state and timers that can be looked at and taken back; the processes
are real. What a whole pipeline gives is in test_conformance_unbounded.py.
"""

from __future__ import annotations

import collections
import json
import os
import signal
import time

import apache_beam as beam
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, GlobalWindow, GlobalWindows, IntervalWindow, Sessions

from beam_tfscript import RunTFScript
from beam_tfscript.dofns.run_stream import StreamShards
from beam_tfscript.errors import ArgumentError, FeedError, ScriptDied, ScriptEnvironmentError, ScriptRaised
from beam_tfscript.worker.pool import get_pool
from tests.running import script
from tests.stages import WINDOW, Shard, stream_options
from tests.test_faults import wait_until
from tests.unbounded import OUTPUT
from tests.without_tensorflow import blocked


@pytest.fixture
def stage(tmp_path):
    """Make stages, whose scripts need no TensorFlow but for `trace_records`, and tears them down."""
    made = []

    def make(entry="trace", *, has_end=True, **arguments):
        if entry != "trace_records":
            arguments["user_params"] = {"raw": True, **arguments.get("user_params", {})}
            arguments["env"] = blocked(tmp_path)
        transform = RunTFScript(
            script("streams.py"), OUTPUT, input_schema="id string", entry=entry, feed="stream", **arguments
        )
        dofn = StreamShards(stream_options(transform, has_end=has_end), None)
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
    assert shard.rows.values == [] and shard.state.value is None
    assert {row["timestamp"] for row in shard.outputs} == {WINDOW.max_timestamp()}


@pytest.mark.tensorflow
def test_polls_end_where_tensorflow_pulls_the_rows_and_gives_nothing_more(stage):
    shard = Shard(stage("trace_records"))
    shard.bring("a")
    shard.poll_until("a")
    for _ in range(10):
        shard.fire_poll() if shard.poll.due is not None else None
    assert shard.poll.due is None
    assert shard.fire_end() == ["end"]


@pytest.mark.tensorflow
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
    before = shard.state.value, list(shard.rows.values)
    shard.bring("b")
    shard.poll_until("a", "b")
    shard.state.value, shard.rows.values = before[0], list(before[1])
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
    assert second.poll.due is not None and second.rows.values
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
    assert [row["timestamp"] for row in shard.outputs[1:-1]] == [9, 9]
    # Where nothing was pending at the end of time, nothing has held the watermark back.
    assert shard.outputs[-1]["timestamp"] in (9, GlobalWindow().max_timestamp())
    assert shard.rows.values == []


@pytest.fixture
def counted(monkeypatch):
    """Counts, by name."""
    found = collections.Counter()
    monkeypatch.setattr("beam_tfscript.metrics.add", lambda name, n=1: found.update({name: n}))
    return found


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_rows_that_are_done_are_not_sent_again_without_replay(stage, counted):
    shard = Shard(stage(replay=False, user_params={"n": 1}))
    shard.bring("a")
    shard.poll_until("a")
    kill(shard.outputs[0]["pid"])
    shard.bring("b")
    shard.fire_end()
    assert shard.ids() == ["a", "b", "end"] and counted["rows_lost"] == 0
    assert shard.rows.values == []


def bring_and_kill(shard, tmp_path, *names, at=0):
    """Bring rows that the script reads and never gives back; kill the script when it has them."""
    noted = tmp_path / "has them"
    noted.unlink(missing_ok=True)
    shard.bring(*names)
    wait_until(noted.exists, 60)
    kill(int(noted.read_text()))


@pytest.fixture
def keeps(tmp_path):
    """Arguments of a script that keeps the rows from `b` on until it is killed."""
    return {"entry": "keeps_from", "replay": False, "user_params": {"id": "b", "noted": str(tmp_path / "has them")}}


def test_rows_that_a_killed_process_had_are_sent_again_without_replay(stage, counted, keeps, tmp_path):
    shard = Shard(stage(**keeps))
    bring_and_kill(shard, tmp_path, "a", "b", "c")
    assert shard.rows.values  # in the state, for the next run
    shard.bring("d")
    shard.fire_end()
    assert shard.ids() == ["a", "b", "c", "d", "end"]
    assert counted["rows_lost"] == 0 and counted["process_deaths"] == 1 and shard.rows.values == []


def test_rows_in_the_middle_of_a_chunk_are_sent_again_without_those_before(stage, counted, keeps, tmp_path):
    shard = Shard(stage(**keeps))
    bring_and_kill(shard, tmp_path, *"abcdefgh")
    shard.fire_end()
    assert shard.ids() == [*"abcdefgh", "end"] and shard.outputs[-1]["place"] == 7


@pytest.mark.parametrize("limit", [{"keep_unacked_bytes": 0}, {"keep_unacked_seconds": 0.2}])
def test_rows_beyond_what_is_kept_are_counted_as_lost(stage, counted, keeps, tmp_path, limit):
    shard = Shard(stage(**keeps, **limit))
    bring_and_kill(shard, tmp_path, "a", "b", "c")
    time.sleep(0.3)
    shard.bring("d")
    shard.fire_end()
    assert shard.ids() == ["a", "d", "end"] and counted["rows_lost"] == 2


def test_of_more_rows_than_may_be_kept_the_oldest_are_given_up(stage, counted, keeps, tmp_path):
    names = ["b" + "x" * 1000 + str(number) for number in range(100)]
    shard = Shard(stage(**keeps, keep_unacked_bytes=20_000))
    for name in names:
        shard.bring(name)
    wait_until((tmp_path / "has them").exists, 60)
    kept = sum(len(chunk[-1]) for chunk in shard.rows.values)
    assert 0.5 * 20_000 < kept <= 20_000
    kill(int((tmp_path / "has them").read_text()))
    shard.fire_end()
    given = shard.ids()[:-1]
    assert given == names[-len(given) :] and counted["rows_lost"] == 100 - len(given) > 0


def test_rows_that_wait_for_a_place_are_never_given_up(stage, counted):
    dofn = stage(max_processes=1, replay=False, keep_unacked_bytes=0, keep_unacked_seconds=0.2)
    first, second = Shard(dofn, 0), Shard(dofn, 1)
    first.bring("a")
    second.bring("b")
    second.bring("c")
    time.sleep(0.3)
    first.fire_end()
    second.poll_until("b", "c")
    second.fire_end()
    assert second.ids() == ["b", "c", "end"] and counted["rows_lost"] == 0


def test_state_without_replay_stays_small_while_rows_are_done(stage):
    shard = Shard(stage(replay=False))
    for number in range(300):
        shard.bring(f"{number}")
    assert len(shard.rows.values) <= 300
    shard.poll_until(*map(str, range(300)))
    assert shard.rows.values == []
    shard.fire_end()


def test_key_that_moves_to_another_worker_goes_on_with_what_is_not_done(stage, counted, keeps, tmp_path):
    shard = Shard(stage(**keeps))
    noted = tmp_path / "has them"
    shard.bring("a", "b", "c")
    wait_until(noted.exists, 60)
    # What another worker finds: the state, and no run of that identity.
    pool = get_pool()
    identity, run = pool.live_runs._runs.popitem()
    run.release(pool)
    shard.bring("d")
    shard.fire_end()
    assert shard.ids() == ["a", "b", "c", "d", "end"] and counted["rows_lost"] == 0


def test_poll_does_not_wait_for_a_bundle_that_deals_with_the_same_rows(stage):
    shard = Shard(stage())
    shard.bring("a")
    with get_pool().live_runs.guard((shard.dofn._name, 0, (0.0, 10.0))):
        begin = time.monotonic()
        shard.fire_poll()
        assert time.monotonic() - begin < 1 and shard.poll.due is not None
    shard.poll_until("a")
    assert shard.fire_end() == ["end"]


def test_bundle_does_not_wait_for_ever_for_another_that_deals_with_the_same_rows(stage, monkeypatch):
    monkeypatch.setattr("beam_tfscript.worker.live_runs._GUARD_LIMIT_S", 0.5)
    shard = Shard(stage())
    with (
        get_pool().live_runs.guard((shard.dofn._name, 0, (0.0, 10.0))),
        pytest.raises(ScriptEnvironmentError, match="another bundle of this worker has worked on"),
    ):
        shard.bring("a")


def test_run_without_news_gives_its_place_to_one_that_waits(stage, monkeypatch, counted):
    dofn = stage(max_processes=1, replay=False)
    lost, waits = Shard(dofn, 0), Shard(dofn, 1)
    lost.bring("a")
    lost.poll_until("a")
    waits.bring("b")
    waits.fire_poll()
    assert waits.ids() == []
    monkeypatch.setattr("beam_tfscript.worker.live_runs.STALE_AFTER_S", 0.0)
    waits.fire_poll()
    waits.poll_until("b")
    assert len(get_pool().live_runs._runs) == 1
    waits.fire_end()
    # Should its key come back: what was done is done.
    lost.bring("c")
    lost.fire_end()
    assert lost.ids() == ["a", "c", "end"] and counted["rows_lost"] == 0


def test_run_that_a_bundle_deals_with_is_not_without_news(stage, monkeypatch):
    dofn = stage(max_processes=1, replay=False)
    busy, waits = Shard(dofn, 0), Shard(dofn, 1)
    busy.bring("a")
    busy.poll_until("a")
    monkeypatch.setattr("beam_tfscript.worker.live_runs.STALE_AFTER_S", 0.0)
    with get_pool().live_runs.guard((dofn._name, 0, (0.0, 10.0))):
        waits.bring("b")
        waits.fire_poll()
        assert waits.ids() == [] and get_pool().live_runs.take_abandoned(set()) == []
    busy.fire_end()
    assert busy.ids() == ["a", "end"]
    waits.fire_end()


def test_state_of_a_newer_version_is_read(stage):
    shard = Shard(stage(replay=False))
    shard.bring("a")
    shard.poll_until("a")
    state = json.loads(shard.state.value)
    state["news"] = 1
    state["positions"]["0"]["news"] = 2
    shard.state.value = json.dumps(state).encode()
    shard.bring("b")
    shard.fire_end()
    assert shard.ids() == ["a", "b", "end"] and len({row["run"] for row in shard.outputs}) == 1


def test_rows_larger_than_the_sockets_buffer_arrive_while_nothing_else_comes(stage, tmp_path):
    noted = tmp_path / "noted"
    shard = Shard(stage("notes_size", user_params={"noted": str(noted)}))
    shard.bring("x" * (8 << 20))
    wait_until(lambda: noted.exists() and noted.read_text() == str(8 << 20), 60)
    assert shard.fire_end() == ["end"]


def test_script_killed_while_a_child_of_it_holds_the_socket_is_noticed_by_a_poll(stage, tmp_path):
    noted = tmp_path / "noted"
    shard = Shard(stage("leaves_a_child", user_params={"noted": str(noted)}, max_attempts=1))
    shard.bring("a")
    shard.poll_until("a")
    wait_until(lambda: noted.exists() and noted.read_text(), 10)
    kill(shard.outputs[0]["pid"])
    with pytest.raises(ScriptDied, match="SIGKILL"):
        shard.fire_poll()


@pytest.mark.parametrize("replay", [True, False])
def test_failure_behind_the_loop_is_told_as_it_was_first(stage, tmp_path, replay):
    marks = tmp_path / "marks"
    shard = Shard(stage("fails_at_the_end", replay=replay, user_params={"marks": str(marks)}))
    shard.bring("a", "b")
    shard.poll_until("a", "b")
    with pytest.raises(ScriptRaised, match="ValueError: failure 1 with 2 rows") as caught:
        shard.fire_end()
    # With replay its rows are there for another attempt; without, none is left.
    assert len(marks.read_text()) == (3 if replay else 1)
    assert ("the first of 3 attempts" in str(caught.value)) == replay


def test_process_that_dies_with_all_rows_done_is_not_started_again(stage, counted, caplog):
    shard = Shard(stage(replay=False, max_attempts=1 + 1))
    shard.bring("a")
    shard.poll_until("a")
    kill(shard.outputs[0]["pid"])
    assert shard.fire_end() == []
    assert counted["process_deaths"] == 1 and counted["runs"] == 1 and "All its rows were done by then" in caplog.text


def test_last_outputs_before_a_stop_are_given_out(stage, counted):
    shard = Shard(stage("stops_at", user_params={"id": "b"}))
    shard.bring("a", "b")
    shard.poll_until("a", "b", "end")
    assert shard.poll.due is None and shard.rows.values == []
    shard.bring("c", "d")
    assert shard.fire_end() == [] and shard.ids() == ["a", "b", "end"]
    assert counted["rows_unread"] == 2


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
        kill(shard.outputs[-1]["pid"])
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
    monkeypatch.setattr("beam_tfscript.worker.live_runs.STALE_AFTER_S", 1.0)
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

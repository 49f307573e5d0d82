"""Promises that hold on every engine on unbounded input; Prism and Flink by `make test-prism` and `test-flink`."""

from __future__ import annotations

import collections
import time

import apache_beam as beam
import pytest
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, Repeatedly
from apache_beam.transforms.window import FixedWindows, GlobalWindows, SlidingWindows

from beam_tfscript import RunTFScript, metrics
from tests.chaos import play
from tests.chaos_model import Plan, violations
from tests.conftest import TESTED
from tests.running import script
from tests.unbounded import OUTPUT, KillOnRow, Pause, Watermark, rows, run_stream
from tests.without_tensorflow import blocked

# What the script has done by then, the runner has seen.
SOON_S = 3
IN_TENS = beam.WindowInto(FixedWindows(10))
# The in-memory engine and Beam's portable Spark runner are for bounded input.
UNBOUNDED = [name for name in TESTED if name not in ("in_memory", "spark")]
pytestmark = pytest.mark.parametrize("engine", UNBOUNDED, indirect=True)


@pytest.fixture
def traced(tmp_path):
    """Make the transform, with a script that tells for each row which run had it.

    Most of what holds here is not of TensorFlow: those runs find none, and start in a tenth of a second.
    """

    def make(entry="trace", *, with_tensorflow=False, user_params=None, **arguments):
        if not with_tensorflow:
            arguments["env"] = blocked(tmp_path)
        params = {"raw": not with_tensorflow, **(user_params or {})}
        return RunTFScript(
            script("streams.py"), OUTPUT, input_schema="id string", entry=entry, user_params=params, **arguments
        )

    return make


def check_counts(runner, streamed):
    """A GroupByKey behind the script has counted all that it gave out, while the windows were open."""
    given = collections.Counter(row["window"] for row in streamed.rows)
    # The bundle-based engine lets the watermark pass what a timer is about to give out, which is late then.
    assert streamed.counted == given or runner.engine == "bundle_based"


@pytest.fixture
def counters(monkeypatch):
    """Return the transform's counters: the bundle-based engine forgets those of all bundles but the first."""
    counted = collections.Counter()
    add = metrics.add

    def add_too(name, n=1):
        counted[name] += n
        add(name, n)

    monkeypatch.setattr(metrics, "add", add_too)
    return counted


@pytest.mark.tensorflow
def test_window_is_a_run_that_ends_with_it(runner, traced):
    events = [Watermark(0), rows(1, 2, 11), Watermark(5), rows(3, 12), Watermark(13), rows(14), Watermark(25), rows(26)]
    streamed = run_stream(runner, events, traced(with_tensorflow=True), IN_TENS)
    runs = sorted(streamed.runs(), key=lambda run: run[0]["window"])
    expected = [(0.0, [1, 2, 3]), (10.0, [11, 12, 14]), (20.0, [26])]
    for run, (start, numbers) in zip(runs, expected, strict=True):
        assert sorted(float(row["id"]) for row in run[:-1]) == numbers
        assert (run[-1]["id"], run[-1]["place"]) == ("end", len(numbers))
        assert {row["window"] for row in run} == {(start, start + 10)}
        assert {row["run_window"] for row in run} == {f"{start:g}-{start + 10:g}"}
        assert {row["timestamp"] for row in run} <= {(start * 1000000 + 9999999) / 1e6}
    check_counts(runner, streamed)
    assert {row["pid"] for row in runs[2]} < {row["pid"] for row in runs[0] + runs[1]}


def test_late_rows_start_a_run_of_their_own_and_what_is_too_late_is_dropped(runner, traced):
    events = [Watermark(0), rows(1), Watermark(15), Pause(SOON_S), rows(2, 16), Watermark(60), Pause(SOON_S), rows(3)]
    windows = beam.WindowInto(FixedWindows(10), allowed_lateness=20)
    streamed = run_stream(runner, events, traced(), windows)
    runs = [[row["id"] for row in run] for run in streamed.runs() if run[0]["window"] == (0, 10)]
    # Only Flink drops rows before a stage with state; and Prism ends a late run at once, or with what comes next.
    apart, together = [["2", "end"], ["3", "end"]], [["2", "3", "end"]]
    late = {"flink": [[["2", "end"]]], "prism": [apart, together], "bundle_based": [apart]}
    assert sorted(runs) in [[["1", "end"], *those] for those in late[runner.engine]]
    assert streamed.ids(window=(10, 20)) == [16]


def test_sliding_windows_give_a_row_to_a_run_of_each(runner, traced):
    events = [Watermark(0), rows(7), Watermark(12), rows(13)]
    windows = beam.WindowInto(SlidingWindows(10, 5))
    streamed = run_stream(runner, events, traced(), windows)
    assert [streamed.ids(window=(start, start + 10)) for start in (0, 5, 10)] == [[7], [7, 13], [13]]
    assert len(streamed.at(id="end")) == 3
    check_counts(runner, streamed)


@pytest.mark.tensorflow
@pytest.mark.parametrize("feed", [None, "stream"])
def test_global_window_is_one_run_with_the_times_of_its_rows(runner, traced, feed):
    events = [Watermark(0), rows(1, 2), Watermark(5), Pause(SOON_S), rows(7), Pause(SOON_S)]
    streamed = run_stream(
        runner, events, traced("trace_records", feed=feed, with_tensorflow=True), beam.WindowInto(GlobalWindows())
    )
    (run,) = streamed.runs()
    assert sorted((row["id"], row["timestamp"]) for row in run if row["id"] != "end")[-1] == ("7", 7)
    assert streamed.ids() == [1, 2, 7] and run[-1]["id"] == "end"
    assert {row["timestamp"] for row in run[:-1]} <= {2, 7}


def test_watermark_waits_for_what_the_global_windows_run_is_about_to_give(runner, traced):
    """Else a fixed window downstream is over before its rows come, and they are dropped without a word."""
    events = [Watermark(0), rows(1, 2, 3), Watermark(3600), Pause(8), Watermark(3700)]
    transform = traced("slow", user_params={"seconds": 1.0}, poll_interval=0.2)
    streamed = run_stream(runner, events, transform, beam.WindowInto(GlobalWindows()), after=IN_TENS)
    assert streamed.ids(window=(0, 10)) == [1, 2, 3] and len(streamed.at(id="end")) == 1
    check_counts(runner, streamed)


@pytest.mark.cold
@pytest.mark.usefixtures("runner")  # has Beam's worker tear idle DoFns down soon, where the engine hangs up first
def test_rows_that_come_faster_than_the_script_takes_them(engine, tmp_path):
    """A bundle that takes long is one that Prism would split, with rows of one key on both sides."""
    name, options = engine
    plan = Plan(
        engine=name, feed="stream", replay=False, keep_unacked_bytes=None, max_attempts=2, num_workers=1, rows=200,
        row_bytes=300_000, output_bytes=0, batch=10, window=1000.0, chunk=100, has_dead_letters=False, disk_mib=None,
        faults={},
    )  # fmt: skip
    assert violations(plan, play(plan, tmp_path, options)) == []


def test_outputs_leave_while_input_pauses_and_the_process_stays(runner, traced, tmp_path):
    came, out = tmp_path / "came", tmp_path / "out"

    def note(row):
        if row["id"] == "2":
            came.write_text(str(time.time()))
        return row

    def note_output(row):
        out.touch()
        return row

    before = IN_TENS | beam.Map(note).with_output_types(dict)
    transform = traced(idle_timeout=0.3, poll_interval=0.2)
    events = [Watermark(0), rows(1), Pause(60, until=str(out)), rows(2)]
    streamed = run_stream(runner, events, transform, before, after=beam.Map(note_output))
    (run,) = streamed.runs()
    assert [row["id"] for row in run] == ["1", "2", "end"]
    assert run[0]["seen"] < float(came.read_text())
    assert run[0]["pid"] == run[2]["pid"]


@pytest.mark.parametrize("entry", ["dies_at", "raises_at"])
def test_rows_of_a_window_are_replayed_when_its_run_fails_inside_a_bundle(runner, traced, tmp_path, entry):
    events = [Watermark(0), rows(1, 2), Pause(1), rows(3, 4), Watermark(15), rows(16)]
    transform = traced(entry, user_params={"id": "3", "times": 2, "marks": str(tmp_path / "marks")})
    streamed = run_stream(runner, events, transform, IN_TENS)
    assert set(streamed.ids(window=(0, 10))) == {1, 2, 3, 4}
    (end,) = streamed.at(window=(0, 10), id="end")
    assert end["place"] == 4 and end["attempt"] >= 3
    check_counts(runner, streamed)


@pytest.mark.parametrize("replay", [True, False])
def test_process_that_is_killed_between_bundles_costs_what_replay_says(runner, traced, tmp_path, counters, replay):
    pids = tmp_path / "pids"
    pids.mkdir()
    events = [Watermark(0), rows(1, 2), rows(3), Pause(SOON_S), rows(4), rows(5), rows(6)]
    before = IN_TENS | beam.ParDo(KillOnRow("5", str(pids))).with_output_types(dict)
    transform = traced(replay=replay, user_params={"pids": str(pids), "n": 1})
    streamed = run_stream(runner, events, transform, before)
    assert counters["rows_lost"] == 0
    if replay:
        assert set(streamed.ids()) == {1, 2, 3, 4, 5, 6}
    else:
        assert streamed.ids() == [1, 2, 3, 4, 5, 6]


def test_runs_beyond_max_processes_wait_in_state(runner, traced, counters):
    events = [Watermark(0), *(rows(*range(at, 40, 4)) for at in range(4)), Watermark(20), rows(25, 45), Watermark(50)]
    streamed = run_stream(runner, events, traced(max_processes=1, num_workers=2), IN_TENS)
    assert streamed.ids() == sorted([*range(40), 25, 45])
    ends = streamed.at(id="end")
    assert sum(end["place"] for end in ends) == 42
    assert counters["process_starts"] <= 3


def test_rows_behind_a_stop_are_counted_as_unread(runner, traced, counters):
    events = [Watermark(0), rows(1, 2), Pause(SOON_S), rows(3, 4), Pause(SOON_S), rows(5, 6), Watermark(15), rows(16)]
    transform = traced("stops_at", user_params={"id": "2"})
    streamed = run_stream(runner, events, transform, IN_TENS)
    first = streamed.ids(window=(0, 10))
    assert 2 in first and len(streamed.at(id="end", window=(0, 10))) == 1
    assert counters["rows_unread"] == 6 - len(first)
    assert streamed.ids(window=(10, 20)) == [16]


@pytest.mark.tensorflow
def test_feed_dataset_makes_a_run_of_each_pane(runner, traced):
    events = [Watermark(0), rows(1, 2), Pause(1), rows(3, 4, 11), Watermark(12), Pause(1), rows(5)]
    windows = beam.WindowInto(
        FixedWindows(10),
        trigger=Repeatedly(AfterCount(1)),
        accumulation_mode=AccumulationMode.DISCARDING,
        allowed_lateness=60,
    )
    streamed = run_stream(runner, events, traced(feed="dataset", with_tensorflow=True), windows)
    assert streamed.ids() == [1, 2, 3, 4, 5, 11]
    for run in streamed.runs():
        assert (run[-1]["id"], run[-1]["place"]) == ("end", len(run) - 1)
    assert len([run for run in streamed.runs() if run[0]["window"] == (0, 10)]) >= 2


@pytest.mark.parametrize("mode", [AccumulationMode.DISCARDING, AccumulationMode.ACCUMULATING])
@pytest.mark.parametrize("feed", ["bundles", "stream"])
def test_triggers_change_nothing_for_rows_that_are_passed_on_as_they_come(runner, traced, feed, mode):
    events = [Watermark(0), rows(1, 2), Pause(1), rows(3, 4, 11), Watermark(12), Pause(1), rows(15)]
    windows = beam.WindowInto(
        FixedWindows(10), trigger=Repeatedly(AfterCount(2)), accumulation_mode=mode, allowed_lateness=60
    )
    # Counted behind the trigger of a window's end: with others, the bundle-based engine comes to a stall at times.
    streamed = run_stream(runner, events, traced(feed=feed), windows, after=IN_TENS)
    assert [streamed.ids(window=(start, start + 10)) for start in (0, 10)] == [[1, 2, 3, 4], [11, 15]]
    if feed == "stream":
        assert [(run[-1]["id"], run[-1]["place"]) for run in streamed.runs()].count(("end", 4)) == 1


@pytest.mark.tensorflow
def test_feed_bundles_gives_each_row_back_once_in_its_window(runner, traced):
    events = [Watermark(0), rows(1, 2, 11), Pause(1), rows(3, 12), Watermark(25), rows(26)]
    streamed = run_stream(runner, events, traced(feed="bundles", with_tensorflow=True), IN_TENS)
    assert [streamed.ids(window=(start, start + 10)) for start in (0, 10, 20)] == [[1, 2, 3], [11, 12], [26]]

"""The feed `stream` on bounded input: one run a (shard, window), fed from the group as it reads."""

from __future__ import annotations

import time

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import RunTFScript
from tests.running import script
from tests.without_tensorflow import SCHEMA, blocked, ids, run_of

# Enough of them for several chunks.
LONG = [f"{number:0100}" for number in range(24_000)]


@pytest.fixture
def no_tensorflow(tmp_path):
    return blocked(tmp_path)


def numbers(rows):
    return sorted(int(row["id"]) for row in rows)


def in_windows_of(seconds):
    def window(rows):
        return (
            rows | beam.Map(lambda row: TimestampedValue(row, int(row["id"]))) | beam.WindowInto(FixedWindows(seconds))
        )

    return window


class TestWaysToRead:
    @pytest.mark.tensorflow
    @pytest.mark.parametrize("entry", ["dataset_fn", "parsed_dataset", "batches"])
    def test_every_row_comes_once(self, in_memory, entry):
        # dataset_fn also goes through a second pass, which is empty.
        assert numbers(in_memory.run(run_of(entry, "stream", params={"n": 7}), ids(300))) == list(range(300))
        assert in_memory.metrics["runs"] == 1

    def test_lists_of_examples(self, in_memory, no_tensorflow):
        rows = in_memory.run(run_of("echo", "stream", params={"n": 8}, env=no_tensorflow), ids(300))
        assert numbers(rows) == list(range(300))
        assert max(row["rows"] for row in rows) == 8

    def test_runs_without_rows_where_there_is_no_input(self, in_memory, no_tensorflow):
        rows = in_memory.run(run_of("count", "stream", num_workers=3, env=no_tensorflow))
        assert [row["id"] for row in rows] == ["0 rows"] * 3

    def test_empty_input_makes_no_run(self, in_memory, no_tensorflow):
        assert in_memory.run(run_of("count", "stream", env=no_tensorflow), []) == []
        assert "runs" not in in_memory.metrics

    def test_large_records_go_both_ways(self, in_memory, no_tensorflow):
        transform = run_of(
            "pass_on", "stream", input_schema="id varbinary", output_schema="id varbinary", env=no_tensorflow
        )
        sizes = [5, 20 << 20, 24 << 20, 7]
        rows = in_memory.run(transform, sizes, before=lambda sizes: sizes | beam.Map(lambda size: {"id": b"x" * size}))
        assert sorted(len(row["id"]) for row in rows) == sorted(sizes)


class TestRuns:
    def test_each_shard_and_window_is_a_run(self, in_memory, no_tensorflow):
        transform = run_of("echo", "stream", num_workers=2, shard_by="id", env=no_tensorflow)
        outputs = in_memory.outputs(transform, ids(40), before=in_windows_of(10))["good"]
        assert numbers(output.row for output in outputs) == list(range(40))
        for output in outputs:
            start = int(output.row["id"]) // 10 * 10
            assert output.window == (start, start + 10) and output.row["window"] == f"{start}-{start + 10}"
            assert output.timestamp == pytest.approx(start + 10, abs=0.01)
        assert in_memory.metrics["runs"] == 8

    @pytest.mark.cold
    @pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
    def test_200_windows_pass_with_two_processes(self, in_memory, no_tensorflow, feed):
        entry = "echo_file" if feed == "dataset" else "echo"
        transform = run_of(entry, feed, max_processes=2, env=no_tensorflow)
        outputs = in_memory.outputs(transform, ids(600), before=in_windows_of(3))["good"]
        assert numbers(output.row for output in outputs) == list(range(600))
        assert all(output.row["window"] == "{:g}-{:g}".format(*output.window) for output in outputs)
        assert in_memory.metrics["runs"] == (1 if feed == "bundles" else 200)
        assert in_memory.metrics["process_starts"] <= 2


class TestStop:
    def test_rows_that_are_not_read_are_counted(self, in_memory, no_tensorflow):
        rows = in_memory.run(run_of("stops", "stream", env=no_tensorflow), ids(300))
        assert len(rows) == 17 and rows[-1]["id"] == "stopped"
        assert in_memory.metrics["rows_unread"] == 300 - 16
        assert in_memory.metrics["runs"] == 1

    @pytest.mark.parametrize("entry", ["stops", "stops_at_once"])
    def test_rows_that_were_never_sent_are_counted_too(self, in_memory, no_tensorflow, entry):
        transform = run_of("stops_late", "stream", params={"reads": entry == "stops"}, env=no_tensorflow)
        in_memory.run(transform, range(50), before=lambda them: them | beam.Map(lambda _: {"id": "x" * (1 << 20)}))
        assert in_memory.metrics["rows_unread"] == 50 - (entry == "stops")

    @pytest.mark.parametrize("n", [1, 8])
    def test_return_before_the_end_is_an_error(self, in_memory, no_tensorflow, n):
        transform = run_of("returns_early", "stream", params={"n": n}, env=no_tensorflow)
        with pytest.raises(Exception, match=r"feeds.py chief:0 shard 0/1.*main returned, but .*config.stop\(\)"):
            in_memory.run(transform, ids(300))

    def test_script_that_does_not_read_is_told_with_its_line(self, in_memory, no_tensorflow):
        begin = time.monotonic()
        with pytest.raises(Exception) as caught:
            in_memory.run(run_of("never_reads", "stream", env=no_tensorflow, feed_timeout=1), ids(100))
        text = str(caught.value)
        assert "feeds.py chief:0 shard 0/1" in text and "100 rows to read" in text and "feed_timeout=1 s" in text
        assert "in never_reads" in text and "time.sleep(600)" in text
        assert time.monotonic() - begin < 20

    def test_script_without_rows_may_be_silent(self, in_memory, no_tensorflow):
        transform = run_of("silent_without_rows", "stream", env=no_tensorflow, feed_timeout=0.3)
        assert [row["id"] for row in in_memory.run(transform)] == ["done"]


class TestDeath:
    @pytest.fixture
    def kill(self, tmp_path):
        def parameters(at, times, **more):
            return {"at": at, "times": times, "marks": str(tmp_path / "marks"), "n": 100, **more}

        return parameters

    @pytest.mark.parametrize("how", ["kill", "raise"])
    def test_replay_gives_each_row_at_least_once(self, in_memory, no_tensorflow, kill, how):
        params = kill(LONG[12_000], 2, how=how)
        rows = in_memory.run(run_of("echo", "stream", params=params, replay=True, env=no_tensorflow), long_rows())
        assert set(numbers(rows)) == set(range(len(LONG)))
        assert max(row["attempt"] for row in rows) == 3
        assert in_memory.metrics["runs_failed"] == 2 and "rows_lost" not in in_memory.metrics

    @pytest.mark.parametrize("at", [0, 12_000, 23_999])
    def test_without_replay_each_row_is_given_back_once(self, in_memory, no_tensorflow, kill, monkeypatch, at):
        # So that some rows are not on their way yet when the process dies.
        monkeypatch.setattr("beam_tfscript.feeds.fed_run.IN_FLIGHT_BYTES", 1 << 20)
        params = kill(LONG[at], 1)
        rows = in_memory.run(run_of("echo", "stream", params=params, replay=False, env=no_tensorflow), long_rows())
        found = numbers(rows)
        assert found == list(range(len(LONG))) and "rows_lost" not in in_memory.metrics
        assert in_memory.metrics["process_deaths"] == 1
        assert {row["attempt"] for row in rows} == ({2} if at == 0 else {1, 2})

    def test_last_attempt_fails_the_bundle(self, in_memory, no_tensorflow, kill):
        transform = run_of("echo", "stream", params=kill("0", 99), replay=True, max_attempts=2, env=no_tensorflow)
        with pytest.raises(Exception, match=r"(?s)shard 0/1.* attempt 2.*SIGKILL"):
            in_memory.run(transform, ids(50))

    def test_other_windows_are_not_touched(self, in_memory, no_tensorflow, kill):
        transform = run_of("echo", "stream", params=kill("25", 2), env=no_tensorflow)  # windows that end: replayed
        outputs = in_memory.outputs(transform, ids(40), before=in_windows_of(10))["good"]
        assert set(numbers(output.row for output in outputs)) == set(range(40))
        attempts = {(output.row["window"], output.row["attempt"]) for output in outputs}
        assert {window for window, attempt in attempts if attempt > 1} == {"20-30"}


def long_rows():
    return [{"id": name} for name in LONG]


def test_bad_rows_go_to_the_dead_letters_and_the_rest_goes_on(in_memory, no_tensorflow):
    rows = [{"id": i if i % 10 == 0 else str(i)} for i in range(200)]
    transform = RunTFScript(
        script("feeds.py"), SCHEMA, entry="echo", feed="stream", input_schema="id string", env=no_tensorflow
    )
    outputs = in_memory.outputs(transform.with_exception_handling(), rows)
    assert numbers(output.row for output in outputs["good"]) == [i for i in range(200) if i % 10]
    assert sorted(output.row[0]["id"] for output in outputs["bad"]) == list(range(0, 200, 10))

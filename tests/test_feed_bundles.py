"""The feed `bundles`: one main for many bundles, a bundle's outputs its own, in their windows, in order."""

from __future__ import annotations

import os
import time

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue

from beam_tfscript.worker import pool as pool_module
from tests.running import Runner
from tests.without_tensorflow import InBundles, blocked, ids, run_of


@pytest.fixture
def no_tensorflow(tmp_path):
    return blocked(tmp_path)


@pytest.fixture
def in_bundles(tmp_path, monkeypatch, caplog):
    """Runs a transform over some bundles; one that fails is not tried again without a word."""
    monkeypatch.setattr(pool_module, "IDLE_TIMEOUT_S", 60.0)
    runner = Runner("bundle_based", tmp_path)

    def run(transform, *bundles, **arguments):
        outputs = runner.outputs(InBundles(transform, bundles, **arguments), options=["--streaming"])["good"]
        assert "Exception at bundle" not in caplog.text
        return sorted(outputs, key=lambda output: int(output.row["id"]))

    return run


def names(rows):
    return [row["id"] for row in rows]


def at_its_second(rows):
    return rows | beam.Map(lambda row: TimestampedValue(row, int(row["id"])))


class TestOneMainForManyBundles:
    @pytest.mark.tensorflow
    def test_batches_go_on_and_the_last_of_a_bundle_is_partial(self, in_bundles):
        outputs = in_bundles(run_of("batches", "bundles", params={"n": 8}), ids(20), ids(3, start=20), ids(9, start=23))
        assert [output.row["id"] for output in outputs] == names(ids(32))
        assert len({output.row["pid"] for output in outputs}) == 1
        sizes = [8, 8, 4, 3, 8, 1]
        expected = [(number, rows) for number, rows in enumerate(sizes) for _ in range(rows)]
        assert [(output.row["batch"], output.row["rows"]) for output in outputs] == expected

    @pytest.mark.tensorflow
    def test_datasets_are_one_a_bundle_and_window_in_graph_mode(self, in_bundles):
        outputs = in_bundles(run_of("datasets", "bundles"), ids(15), ids(25, start=15), window=FixedWindows(20))
        assert [output.row["id"] for output in outputs] == names(ids(40))
        found = {(output.row["batch"], output.row["rows"], output.row["window"]) for output in outputs}
        assert found == {(0, 15, "0-20"), (1, 5, "0-20"), (2, 20, "20-40")}
        assert len({output.row["pid"] for output in outputs}) == 1
        assert {(output.window, output.timestamp) for output in outputs} == {
            ((0, 20), 0),
            ((0, 20), 15),
            ((20, 40), 20),
        }

    def test_idle_process_ends_in_order_and_the_next_bundle_gets_a_new_one(
        self, in_bundles, no_tensorflow, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(pool_module, "_REAPER_TICK_S", 0.2)
        told = tmp_path / "told"

        def wait_before_the_second_bundle(row):
            deadline = time.monotonic() + 20
            while row["id"] == "10" and not told.exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            return row

        transform = run_of("echo", "bundles", params={"told": str(told)}, env=no_tensorflow, idle_timeout=0.3)
        outputs = in_bundles(transform, ids(10), ids(10, start=10), before=wait_before_the_second_bundle)
        assert [output.row["id"] for output in outputs] == names(ids(20))
        first, second = outputs[0].row["pid"], outputs[-1].row["pid"]
        assert first != second
        assert told.read_text().splitlines()[0] == f"{first} ended"

    def test_script_that_stops_is_given_no_more(self, in_bundles, no_tensorflow):
        transform = run_of("stops", "bundles", params={"n": 8, "last": 1}, env=no_tensorflow)
        outputs = in_bundles(OnlyNumbers(transform), ids(30), ids(40, start=30), ids(100, start=70))
        assert [output.row["id"] for output in outputs] == names(ids(16))

    @pytest.mark.parametrize(("bundles", "place"), [((ids(5),), 0), ((ids(5), ids(7, start=5)), 5)])
    def test_what_is_written_behind_a_stop_is_of_the_bundle_that_saw_it(self, tmp_path, no_tensorflow, bundles, place):
        runner = Runner("bundle_based", tmp_path)
        entry = "stops_before_it_reads" if len(bundles) == 1 else "stops_between_bundles"
        rows = InBundles(run_of(entry, "bundles", env=no_tensorflow), bundles, window=FixedWindows(100))
        outputs = runner.outputs(rows, options=["--streaming"])["good"]
        assert [output.row["id"] for output in outputs if not output.row["id"].isdigit()] == ["stopped"]
        (stopped,) = [output for output in outputs if output.row["id"] == "stopped"]
        assert (stopped.window, stopped.timestamp) == ((0, 100), place)


class OnlyNumbers(beam.PTransform):
    """Leaves out the rows that are not about an input row."""

    def __init__(self, transform):
        super().__init__()
        self._transform = transform

    def expand(self, rows):
        return rows | self._transform | beam.Filter(lambda row: row.id.isdigit())


class TestStop:
    def test_rows_that_are_not_read_are_counted(self, in_memory, no_tensorflow):
        rows = in_memory.run(run_of("stops", "bundles", env=no_tensorflow), ids(9000))
        assert names(rows) == [*names(ids(16)), "stopped"]
        assert in_memory.metrics["rows_unread"] == 9000 - 16
        assert in_memory.metrics["runs"] == 1

    def test_script_may_stop_before_it_reads(self, in_memory, no_tensorflow):
        assert in_memory.run(run_of("stops_at_once", "bundles", env=no_tensorflow), ids(300)) == []
        assert in_memory.metrics["rows_unread"] == 300


class TestPlace:
    def test_rows_of_several_windows_in_a_bundle_keep_theirs(self, in_memory, no_tensorflow):
        def window(rows):
            return at_its_second(rows) | beam.WindowInto(FixedWindows(10))

        transform = run_of("echo", "bundles", params={"n": 4}, env=no_tensorflow)
        shuffled = [{"id": str(i * 7 % 30)} for i in range(30)]
        outputs = in_memory.outputs(transform, shuffled, before=window)["good"]
        assert sorted(int(output.row["id"]) for output in outputs) == list(range(30))
        batches = {}
        for output in outputs:
            second = int(output.row["id"])
            start = second // 10 * 10
            assert output.window == (start, start + 10)
            assert output.row["window"] == f"{start}-{start + 10}"
            batches.setdefault(output.row["batch"], []).append((second, output.timestamp))
        for batch in batches.values():
            assert {stamp for _, stamp in batch} == {min(second for second, _ in batch)}
            assert len(batch) <= 4

    def test_sliding_windows_give_a_row_to_each_of_its_windows(self, in_memory, no_tensorflow):
        def window(rows):
            return at_its_second(rows) | beam.WindowInto(SlidingWindows(20, 10))

        outputs = in_memory.outputs(run_of("echo", "bundles", env=no_tensorflow), ids(30), before=window)["good"]
        found = sorted((int(output.row["id"]), output.window[0]) for output in outputs)
        assert found == sorted((i, start) for i in range(30) for start in (i // 10 * 10 - 10, i // 10 * 10))
        assert all(output.row["window"] == "{:g}-{:g}".format(*output.window) for output in outputs)

    def test_outputs_are_in_the_order_of_the_rows(self, in_memory, no_tensorflow):
        rows = in_memory.run(run_of("echo", "bundles", params={"n": 7}, env=no_tensorflow), ids(3000))
        assert names(rows) == names(ids(3000))

    def test_there_is_no_shuffle(self):
        pipeline = beam.Pipeline()
        _ = pipeline | beam.Create(ids(3), reshuffle=False) | run_of("echo", "bundles")
        urns = {transform.spec.urn for transform in pipeline.to_runner_api().components.transforms.values()}
        assert "beam:transform:pardo:v1" in urns and "beam:transform:group_by_key:v1" not in urns


class TestForms:
    def test_arrow_batches_go_through(self, in_memory, no_tensorflow):
        def as_batches(rows):
            return rows | beam.Map(
                lambda start: pa.RecordBatch.from_pydict({"id": [str(i) for i in range(start, start + 500)]})
            ).with_output_types(pa.RecordBatch)

        transform = run_of("echo", "bundles", params={"n": 64}, env=no_tensorflow)
        rows = in_memory.run(transform, [0, 500, 1000], before=as_batches)
        assert names(rows) == names(ids(1500))

    def test_bad_rows_go_to_the_dead_letters_and_the_rest_goes_on(self, in_memory, no_tensorflow):
        rows = [{"id": i if i % 10 == 0 else str(i)} for i in range(200)]
        transform = run_of("echo", "bundles", env=no_tensorflow)
        outputs = in_memory.outputs(transform.with_exception_handling(), rows)
        assert [int(output.row["id"]) for output in outputs["good"]] == [i for i in range(200) if i % 10]
        assert [output.row[0]["id"] for output in outputs["bad"]] == list(range(0, 200, 10))

    def test_no_output_is_asked_for(self, in_memory, no_tensorflow):
        transform = run_of("sums_up_nothing", "bundles", output_schema=None, env=no_tensorflow)
        assert in_memory.run(transform, ids(100)) == []
        assert in_memory.metrics["seen"] == 100


class TestSize:
    def test_batch_may_be_larger_than_what_is_on_its_way_at_a_time(self, in_memory, no_tensorflow):
        transform = run_of("sums_up", "bundles", params={"n": 10**10}, env=no_tensorflow)
        rows = in_memory.run(transform, range(400), before=lambda numbers: numbers | beam.Map(make_row, 100 << 10))
        ((count, _, size, _),) = (row["id"].split() for row in rows)
        assert int(count) == 400 and int(size) > 400 * (100 << 10)

    def test_record_may_be_larger_than_what_is_on_its_way_at_a_time(self, in_memory, no_tensorflow):
        transform = run_of(
            "pass_on", "bundles", params={"n": 2}, input_schema="id varbinary", output_schema="id varbinary",
            env=no_tensorflow,
        )  # fmt: skip
        sizes = [5, 20 << 20, 24 << 20, 7, 21 << 20]
        rows = in_memory.run(
            transform, sizes, before=lambda sizes: sizes | beam.Map(lambda size: {"id": os.urandom(size)})
        )
        assert [len(row["id"]) for row in rows] == sizes

    def test_slow_script_gets_more_than_is_on_its_way_at_a_time(self, in_memory, no_tensorflow):
        transform = run_of("sums_up", "bundles", params={"n": 16}, env=no_tensorflow)
        rows = in_memory.run(transform, range(500), before=lambda numbers: numbers | beam.Map(make_row, 100 << 10))
        assert [row["id"].split()[0] for row in rows] == ["16"] * 31 + ["4"]

    def test_outputs_of_a_batch_may_be_larger_than_what_is_held_in_memory(
        self, in_memory, no_tensorflow, monkeypatch, scratch_parent
    ):
        from beam_tfscript.feeds import held_outputs

        spooled = []
        take = held_outputs.HeldOutputs.take

        def take_and_look(held):
            spooled.append(held._path is not None)
            return take(held)

        monkeypatch.setattr(held_outputs.HeldOutputs, "take", take_and_look)
        params = {"times": 20, "size": 1 << 20}
        transform = run_of("enlarge", "bundles", params=params, output_schema="id string", env=no_tensorflow)
        rows = in_memory.run(KeepHeads(transform), ids(2))
        assert names(rows) == [f"{row}-{number}-" for row in "01" for number in range(20)]
        assert spooled == [True]

    def test_bundles_beyond_max_processes_wait_in_order(self, in_memory, no_tensorflow):
        transform = run_of("slow", "bundles", params={"seconds": 0.01}, env=no_tensorflow, max_processes=1)
        options = ["--direct_num_workers=4", "--direct_running_mode=multi_threading"]
        rows = in_memory.run(
            transform, range(16), options=options,
            before=lambda numbers: (
                numbers | beam.FlatMap(lambda i: ids(10, start=10 * i)) | beam.Reshuffle()
            ),
        )  # fmt: skip
        assert sorted(int(row["id"]) for row in rows) == list(range(160))
        assert len({row["pid"] for row in rows}) == 1
        assert in_memory.metrics["process_starts"] == in_memory.metrics["runs"] == 1
        assert in_memory.metrics["process_wait_ms"].count > 1


def make_row(number, size):
    return {"id": f"{number:09}" + "x" * size}


class KeepHeads(beam.PTransform):
    """Cuts long ids, so that the test need not keep them."""

    def __init__(self, transform):
        super().__init__()
        self._transform = transform

    def expand(self, rows):
        return rows | self._transform | beam.Map(lambda row: {"id": row.id.rstrip("x")})


class TestMisuse:
    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ("returns_early", r"feeds.py chief:0 bundles.*main returned, but .*config.stop\(\) ends a feed"),
            ("asks_for_a_stream", r'it is there in feed="stream".*in asks_for_a_stream'),
            ("asks_for_a_dataset", r"reads ahead.*loop over config.batches.*in asks_for_a_dataset"),
        ],
    )
    def test_is_told_at_once(self, in_memory, no_tensorflow, entry, expected):
        with pytest.raises(Exception, match=f"(?s){expected}"):
            in_memory.run(run_of(entry, "bundles", env=no_tensorflow), ids(100))
        assert in_memory.metrics == {}

    @pytest.mark.tensorflow
    def test_two_ways_in_one_run_are_refused(self, in_memory):
        with pytest.raises(Exception, match=r"cannot be used in one run.*"):
            in_memory.run(run_of("mixes_units", "bundles"), ids(100))

    def test_two_ways_in_two_attempts_are_refused(self, in_memory, no_tensorflow):
        with pytest.raises(Exception, match="in all attempts"):
            in_memory.run(run_of("in_two_ways", "bundles", env=no_tensorflow), ids(100))

    @pytest.mark.parametrize("entry", ["never_reads", "stays_alive"])
    def test_script_that_does_not_read_is_told_with_its_line(self, in_memory, no_tensorflow, entry):
        begin = time.monotonic()
        with pytest.raises(Exception) as caught:
            in_memory.run(run_of(entry, "bundles", env=no_tensorflow, feed_timeout=1), ids(100))
        text = str(caught.value)
        assert "feeds.py chief:0 bundles" in text and "100 rows to read" in text and "feed_timeout=1 s" in text
        assert f"in {entry}" in text and "time.sleep(600)" in text
        assert time.monotonic() - begin < 20

    def test_script_is_not_silent_while_its_batch_is_not_full(self, in_memory, no_tensorflow):
        def slowly(rows):
            return rows | beam.Map(lambda row: time.sleep(0.005) or row)

        transform = run_of("echo", "bundles", params={"n": 1000}, env=no_tensorflow, feed_timeout=1.5)
        assert names(in_memory.run(transform, ids(460), before=slowly)) == names(ids(460))

    def test_rows_that_are_written_after_the_end_are_told_in_the_log(self, in_memory, no_tensorflow, caplog):
        assert len(in_memory.run(run_of("writes_after_the_end", "bundles", env=no_tensorflow), ids(20))) == 20
        deadline = time.monotonic() + 10
        while "wrote 1 rows after its feed had ended" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def test_pipeline_without_rows_is_refused(self):
        with pytest.raises(Exception, match="needs an input"):
            _ = beam.Pipeline() | run_of("echo", "bundles")

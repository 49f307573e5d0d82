"""Promises that hold on every engine: local ones by `make test`, others by `make test-prism`, `-flink` and `-spark`.

That nothing is left (process, thread, file, descriptor) is asserted after every test, in conftest.py.
"""

from __future__ import annotations

import collections

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampCombiner, TimestampedValue

from beam_tfscript import RunTFScript
from tests.joins import ROWS as JOINED_ROWS
from tests.joins import Join, check_joined
from tests.running import script
from tests.test_faults import error_of, run_entry
from tests.test_run_batch import by_id, numbered
from tests.without_tensorflow import blocked, ids, run_of

FEEDS = ["dataset", "bundles", "stream"]
ECHO = {"dataset": "echo_file", "bundles": "echo", "stream": "echo"}

ALL_TYPES = (
    "id string, big bigint, l long, i int, small smallint, f float, d double, b boolean, strings array<string>, "
    "longs array<bigint>, ints array<int>, smalls array<smallint>, floats array<float>, doubles array<double>, "
    "booleans array<boolean>"
)
ROWS = [
    {
        "id": f"número {i} 数",
        "big": 2**62 - i,
        "l": -(2**63) + i,
        "i": 2**31 - 1 - i,
        "small": -(2**15) + i,
        "f": i / 2,
        "d": -i / 4,
        "b": i % 2 == 0,
        "strings": [str(j) for j in range(i % 4)],
        "longs": [2**40 + j for j in range(i % 3)],
        "ints": [-j for j in range(i % 5)],
        "smalls": list(range(i % 2)),
        "floats": [j / 8 for j in range(i % 6)],
        "doubles": [j / 16 for j in range(i % 4)],
        "booleans": [j % 2 == 0 for j in range(i % 3)],
    }
    for i in range(250)
]


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("feed", "entry"),
    [
        ("dataset", "main"),
        ("dataset", "echo_file"),
        ("dataset", "echo_messages"),
        ("bundles", "main"),
        ("stream", "main"),
    ],
)
def test_every_type_comes_back_as_it_went_in(runner, feed, entry):
    transform = RunTFScript(
        script("echo.py"), output_schema=ALL_TYPES, input_schema=ALL_TYPES, feed=feed, entry=entry,
        num_workers=None if feed == "bundles" else 3,
    )  # fmt: skip
    assert by_id(runner.run(transform, ROWS)) == by_id(ROWS)


def test_runs_once_a_shard_without_rows_on_a_pipeline(runner):
    transform = RunTFScript(
        script("echo.py"), "shard bigint, num_shards int, rows bigint, attempt int, pid bigint, window string",
        entry="describe", num_workers=3,
    )  # fmt: skip
    rows = runner.run(transform)
    assert sorted((row["shard"], row["num_shards"], row["rows"]) for row in rows) == [(0, 3, 0), (1, 3, 0), (2, 3, 0)]


def test_empty_input_makes_no_run(runner):
    transform = RunTFScript(script("faults.py"), "id string", input_schema="id string", entry="raises")
    assert runner.run(transform, []) == []
    assert "runs" not in runner.metrics


class CountInWindows(beam.PTransform):
    """Count the outputs per key and window of a GroupByKey behind a script that gives back ids."""

    def __init__(self, transform):
        super().__init__()
        self._transform = transform

    def expand(self, rows):
        return (
            rows
            | beam.Map(lambda row: TimestampedValue(row, int(row["id"])))
            | beam.WindowInto(FixedWindows(100))
            | self._transform
            | beam.Map(lambda row: (int(row.id) % 7, row.id))
            | beam.GroupByKey()
            | beam.MapTuple(lambda key, values: (key, len(list(values))))
        )


@pytest.mark.parametrize("feed", FEEDS)
def test_outputs_keep_their_counts_through_a_group_by_key(runner, feed, tmp_path):
    shards = {} if feed == "bundles" else {"num_workers": 3}
    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path), **shards)
    outputs = runner.outputs(CountInWindows(transform), ids(1000))["good"]
    expected = collections.Counter((i % 7, i // 100 * 100.0) for i in range(1000))
    assert sorted((*output.row, output.window[0]) for output in outputs) == sorted(
        (key, count, start) for (key, start), count in expected.items()
    )


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("feed", "combiner"),
    [
        ("dataset", TimestampCombiner.OUTPUT_AT_EOW),
        ("dataset", TimestampCombiner.OUTPUT_AT_EARLIEST),
        ("stream", TimestampCombiner.OUTPUT_AT_EARLIEST),
    ],
)
def test_windows_are_runs_of_their_own(runner, feed, combiner):
    def window(pcoll):
        return (
            pcoll
            | beam.Map(lambda row: TimestampedValue(row, row["x"]))
            | beam.WindowInto(FixedWindows(10), timestamp_combiner=combiner)
        )

    transform = RunTFScript(
        script("echo.py"), "id string, shard bigint, window string", input_schema="id string, x float",
        entry="list_ids", feed=feed, num_workers=2,
    )  # fmt: skip
    outputs = runner.outputs(transform, numbered(35), before=window)["good"]
    assert sorted(int(output.row["id"]) for output in outputs) == list(range(35))
    for output in outputs:
        start = int(output.row["id"]) // 10 * 10
        assert output.row["window"] == f"{start}-{start + 10}"
        assert output.window == (start, start + 10)
        assert output.timestamp == pytest.approx(start + 10, abs=0.01)
    assert runner.metrics["runs"] == 8


def test_bundles_give_each_row_back_in_its_window(runner, tmp_path):
    def window(rows):
        return rows | beam.Map(lambda row: TimestampedValue(row, int(row["id"]))) | beam.WindowInto(FixedWindows(10))

    outputs = runner.outputs(run_of("echo", "bundles", env=blocked(tmp_path)), ids(35), before=window)["good"]
    assert sorted(int(output.row["id"]) for output in outputs) == list(range(35))
    for output in outputs:
        second = int(output.row["id"])
        start = second // 10 * 10
        assert output.window == (start, start + 10) and output.row["window"] == f"{start}-{start + 10}"
        assert start <= output.timestamp <= second


def test_exception_shows_the_scripts_own_lines(runner):
    text = error_of(runner, "raises")
    assert "the script raised ZeroDivisionError" in text
    assert 'File "faults.py", line' in text and "in _divide" in text and "return n / (n - n)" in text
    assert "faults.py chief:0 shard 0/1 attempt 1" in text
    assert "beam_tfscript/runtime" not in text


def test_kill_is_told_by_signal_name(runner):
    text = error_of(runner, "kill_between_batches")
    assert "SIGKILL" in text and "likely out of memory" in text


@pytest.mark.parametrize("entry", ["kill_first_two_attempts", "raise_first_attempt"])
def test_dead_run_is_repeated_and_its_rows_go_downstream_once(runner, entry):
    rows = run_entry(runner, entry, max_attempts=3)
    assert sorted(int(row["id"]) for row in rows) == list(range(95))


@pytest.mark.parametrize("how", ["kill", "raise"])
@pytest.mark.parametrize("feed", ["bundles", "stream"])
def test_rows_of_a_run_that_fails_go_to_another(runner, feed, how, tmp_path):
    params = {"at": "50", "times": 2, "marks": str(tmp_path / "marks"), "how": how}
    replay = {"replay": True} if feed == "stream" else {}
    rows = runner.run(run_of("echo", feed, params=params, env=blocked(tmp_path), **replay), ids(100))
    found = sorted(int(row["id"]) for row in rows)
    assert sorted(set(found)) == list(range(100))
    assert feed == "stream" or len(found) == 100
    assert runner.metrics["runs_failed"] == 2
    assert runner.metrics.get("process_deaths", 0) == (2 if how == "kill" else 0)


@pytest.mark.parametrize("feed", FEEDS)
def test_bad_rows_go_to_the_dead_letters_and_the_rest_goes_on(runner, feed, tmp_path):
    rows = [{"id": str(i)} if i % 10 else {"id": i} for i in range(100)]
    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path))
    outputs = runner.outputs(transform.with_exception_handling(), rows)
    assert sorted(int(output.row["id"]) for output in outputs["good"]) == [i for i in range(100) if i % 10]
    assert sorted(output.row[0]["id"] for output in outputs["bad"]) == list(range(0, 100, 10))
    assert {output.row[1][0].__name__ for output in outputs["bad"]} == {"RowError"}
    assert runner.metrics["rows_bad"] == 10


@pytest.mark.tensorflow
@pytest.mark.parametrize("arguments", [{"num_workers": 2}, {"feed": "stream"}], ids=["dataset", "stream"])
def test_every_run_is_given_the_whole_side_input(runner, arguments):
    check_joined(runner.run(Join(**arguments), JOINED_ROWS))

"""RunTFScript over bounded input, on every engine: rows in, the right rows out."""

from __future__ import annotations

import json
import time
import typing

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue

from beam_tfscript import RunTFScript
from tests.running import Runner, script

pytestmark = pytest.mark.tensorflow


class Reading(typing.NamedTuple):
    id: str
    x: float


def numbered(n):
    return [{"id": str(i), "x": float(i)} for i in range(n)]


def by_id(rows):
    return sorted(rows, key=lambda row: row["id"])


@pytest.mark.parametrize("num_workers", [1, 2, 7])
def test_any_number_of_workers_gives_the_same_rows(in_memory, num_workers):
    schema = "id string, x float"
    transform = RunTFScript(script("echo.py"), schema, input_schema=schema, num_workers=num_workers)
    assert by_id(in_memory.run(transform, numbered(1000))) == by_id(numbered(1000))


@pytest.mark.parametrize(
    "rows",
    [
        [beam.Row(id=str(i), x=float(i)) for i in range(10)],
        [Reading(id=str(i), x=float(i)) for i in range(10)],
    ],
    ids=["beam.Row", "NamedTuple"],
)
def test_rows_with_a_beam_schema_need_no_input_schema(in_memory, rows):
    kind = type(rows[0]) if isinstance(rows[0], Reading) else None
    got = in_memory.run(
        RunTFScript(script("echo.py"), "id string, x double"),
        rows,
        before=(lambda pcoll: pcoll | beam.Map(lambda row: row).with_output_types(kind)) if kind else None,
    )
    assert by_id(got) == by_id(numbered(10))


@pytest.mark.parametrize("form", ["message", "bytes", "bytes without a schema"])
def test_examples_go_through(in_memory, form):
    import tensorflow as tf

    def example(row):
        feature = {
            "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[row["id"].encode()])),
            "x": tf.train.Feature(float_list=tf.train.FloatList(value=[row["x"]])),
        }
        return tf.train.Example(features=tf.train.Features(feature=feature))

    rows = [example(row) for row in numbered(20)]
    schema = "id string, x float"
    transform = RunTFScript(
        script("echo.py"),
        schema,
        input_schema=None if form == "bytes without a schema" else schema,
        entry="echo_file" if form == "bytes without a schema" else "main",
    )
    if form != "message":
        rows = [row.SerializeToString() for row in rows]
    assert by_id(in_memory.run(transform, rows)) == by_id(numbered(20))


def test_output_rows_have_a_beam_schema(in_memory):
    schema = "id string, x float"
    with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
        rows = pipeline | beam.Create(numbered(6)) | RunTFScript(script("echo.py"), schema, input_schema=schema)
        sums = rows | beam.Select("x") | beam.Map(lambda row: row.x) | beam.CombineGlobally(sum)
        assert_that(sums, equal_to([15.0]), label="sum")
        grouped = rows | beam.GroupBy("id").aggregate_field("x", sum, "total") | beam.Map(lambda row: row.total)
        assert_that(grouped, equal_to([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), label="grouped")


def test_selected_cols_are_all_the_script_sees(in_memory):
    transform = RunTFScript(
        script("echo.py"), "text string", input_schema="id string, x float, y bigint", selected_cols=["y", "x"],
        entry="show_arguments",
    )  # fmt: skip
    (row,) = in_memory.run(transform, [{"id": "a", "x": 1.0, "y": 2}])
    seen = json.loads(row["text"])
    assert (seen["spec"], seen["spec_without_x"], seen["columns"]) == (["x", "y"], ["y"], "y bigint, x float")


def test_arguments_reach_the_script(in_memory, tmp_path):
    (tmp_path / "notes.txt").write_text("kept")
    params = {"threshold": 0.5, "n": 3, "on": True, "none": None, "list": [1, "a"], "nested": {"é": [1.5]}}
    transform = RunTFScript(
        script("echo.py"), "text string", input_schema="x float", entry="show_arguments", user_params=params,
        script_args=["--buckets", "a,b"], intra_op_parallelism=3, env={"COLOR": "blue"},
        user_files=[str(tmp_path / "notes.txt"), script("echo.py")],
    )  # fmt: skip
    (row,) = in_memory.run(transform, [{"x": 1.0}])
    seen = json.loads(row["text"])
    assert seen["argv"] == ["echo.py", "--buckets", "a,b"]
    assert seen["params"] == params
    assert seen["cwd"] == seen["path0"] == seen["work_dir"]
    assert {"echo.py", "notes.txt"} <= set(seen["files"])
    assert (seen["omp"], seen["intra"], seen["color"]) == ("3", 3, "blue")
    assert seen["tf_config"] is None and seen["task"] == ["chief", 0] and list(seen["cluster"]) == ["chief"]


def test_user_params_may_be_json_text(in_memory):
    transform = RunTFScript(script("echo.py"), "text string", input_schema="x float", entry="show_arguments",
                            user_params='{"threshold": 0.5}')  # fmt: skip
    (row,) = in_memory.run(transform, [{"x": 1.0}])
    assert json.loads(row["text"])["params"] == {"threshold": 0.5}


def test_modules_and_archives_beside_the_script_are_imported(in_memory, tmp_path):
    import zipfile

    (tmp_path / "beside.py").write_text("VALUE = 'beside'\n")
    (tmp_path / "vocab.txt").write_text("words\n")
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("packed/__init__.py", "")
        archive.writestr("packed/inner.py", "VALUE = 'packed'\n")
    transform = RunTFScript(
        script("echo.py"), "text string", input_schema="x float", entry="use_modules",
        user_files=[str(tmp_path / name) for name in ("beside.py", "vocab.txt", "lib.zip")],
    )  # fmt: skip
    assert in_memory.run(transform, [{"x": 1.0}]) == [{"text": "beside packed words"}]


@pytest.mark.parametrize("output_schema", [None, "id string"])
def test_script_that_writes_nothing_gives_an_empty_collection(in_memory, output_schema):
    transform = RunTFScript(script("echo.py"), output_schema, input_schema="id string, x float", entry="write_nothing")
    assert in_memory.run(transform, numbered(30)) == []


def test_unbounded_input_gives_a_run_for_each_window(tmp_path):
    class Endless(beam.PTransform):
        """Rows as they come from a source without an end."""

        def expand(self, pipeline):
            stream = TestStream().advance_watermark_to(0)
            for start in (0, 10):
                rows = [TimestampedValue(beam.Row(id=str(i), x=float(i)), i) for i in range(start, start + 10)]
                stream = stream.add_elements(rows).advance_watermark_to(start + 10)
            rows = pipeline | stream.advance_watermark_to_infinity()
            typed = rows | beam.Map(lambda row: row).with_output_types(beam.Row)
            return typed | beam.WindowInto(FixedWindows(10))

    class RunOnStream(beam.PTransform):
        def expand(self, pipeline):
            transform = RunTFScript(
                script("echo.py"), "id string, shard bigint, window string", input_schema="id string, x float",
                entry="list_ids", feed="dataset", num_workers=2,
            )  # fmt: skip
            return pipeline | Endless() | transform

    outputs = Runner("bundle_based", tmp_path).outputs(RunOnStream(), options=["--streaming"])["good"]
    assert {(int(output.row["id"]) // 10 * 10, output.row["window"]) for output in outputs} == {
        (0, "0-10"),
        (10, "10-20"),
    }
    assert sorted(int(output.row["id"]) for output in outputs) == list(range(20))


def test_sliding_windows_give_a_row_to_each_of_its_windows(in_memory):
    def window(pcoll):
        return pcoll | beam.Map(lambda row: TimestampedValue(row, row["x"])) | beam.WindowInto(SlidingWindows(10, 5))

    transform = RunTFScript(
        script("echo.py"), "id string, shard bigint, window string", input_schema="id string, x float", entry="list_ids"
    )
    rows = in_memory.run(transform, numbered(10), before=window)
    assert sorted((int(row["id"]), row["window"]) for row in rows) == sorted(
        (i, f"{start}-{start + 10}") for i in range(10) for start in ((i // 5) * 5, (i // 5) * 5 - 5)
    )


@pytest.mark.cold
def test_one_process_serves_many_windows_and_keeps_graph_scripts_apart(in_memory):
    def window(pcoll):
        return pcoll | beam.Map(lambda row: TimestampedValue(row, row["x"])) | beam.WindowInto(FixedWindows(5))

    transform = RunTFScript(
        script("graph.py"), "window double, total double, operations bigint", input_schema="id string, x float"
    )
    rows = sorted(in_memory.run(transform, numbered(100), before=window), key=lambda row: row["window"])
    assert [row["total"] for row in rows] == [sum(range(start, start + 5)) for start in range(0, 100, 5)]
    assert len({row["operations"] for row in rows}) == 1
    assert (in_memory.metrics["runs"], in_memory.metrics["process_starts"]) == (20, 1)


def test_shard_by_keeps_equal_values_together(in_memory):
    rows = [{"id": str(i), "user": f"u{i % 11}"} for i in range(300)]
    transform = RunTFScript(
        script("echo.py"), "id string, shard bigint, window string", input_schema="id string, user string",
        selected_cols=["id"], entry="list_ids", num_workers=4, shard_by="user",
    )  # fmt: skip
    got = in_memory.run(transform, rows)
    assert sorted(int(row["id"]) for row in got) == list(range(300))
    shards = {}
    for row in got:
        shards.setdefault(int(row["id"]) % 11, set()).add(row["shard"])
    assert all(len(places) == 1 for places in shards.values())
    assert len(set().union(*shards.values())) > 1


def test_rows_are_dealt_out_evenly(in_memory):
    transform = RunTFScript(
        script("echo.py"), "shard bigint, num_shards int, rows bigint, attempt int, pid bigint, window string",
        input_schema="id string, x float", entry="describe", num_workers=7,
    )  # fmt: skip
    rows = in_memory.run(transform, numbered(1000))
    assert sorted(row["rows"] for row in rows) == [142, 143, 143, 143, 143, 143, 143]


@pytest.mark.cold
def test_metrics_and_log_lines_reach_beam(in_memory, caplog):
    transform = RunTFScript(
        script("echo.py"), "id string", input_schema="id string, x float", entry="metrics_and_logs", num_workers=2
    )
    in_memory.run(transform, numbered(9))
    metrics = in_memory.metrics
    assert (metrics["seen"], metrics["rows_in"], metrics["runs"]) == (9, 9, 2)
    assert (metrics["sizes"].min, metrics["sizes"].max, metrics["sizes"].count) == (1, 9, 6)
    assert metrics["process_start_ms"].count == metrics["process_starts"] >= 1
    assert metrics["process_wait_ms"].count == metrics["run_ms"].count == 2
    assert metrics["bytes_in"] > 0 and "rows_out" not in metrics
    expected = set()
    for shard in (0, 1):
        prefix = f"[echo.py chief:0 shard {shard}/2 attempt 1] "
        expected |= {
            ("INFO", f"{prefix}printed by shard {shard}"),
            ("INFO", prefix + "to stderr"),
            ("WARNING", prefix + "logged a warning"),
            ("ERROR", prefix + "mine: two\nlines"),
            ("INFO", prefix + "no line end"),
        }
    # Lines come by a thread of their own, and may be some moments behind the rows.
    deadline = time.monotonic() + 10
    while not expected <= (lines := {(record.levelname, record.getMessage()) for record in caplog.records}):
        assert time.monotonic() < deadline, expected - lines
        time.sleep(0.05)


def test_numpy_values_are_taken(in_memory):
    rows = [{"i": np.int16(3), "x": np.float32(0.5), "xs": np.arange(3, dtype=np.float32)}]
    schema = "i smallint, x float, xs array<float>"
    assert in_memory.run(RunTFScript(script("echo.py"), schema, input_schema=schema), rows) == [
        {"i": 3, "x": 0.5, "xs": [0.0, 1.0, 2.0]}
    ]


def test_null_in_null_out(in_memory):
    schema = "id string, x float, xs array<float>"
    rows = [{"id": None, "x": None, "xs": None}, {"id": "a", "x": 1.0, "xs": []}]
    got = in_memory.run(RunTFScript(script("echo.py"), schema, input_schema=schema, entry="echo_file"), rows)
    assert sorted(got, key=repr) == sorted(rows, key=repr)

"""Forms of rows: all forms of input elements, and all forms of output elements."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import re
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from beam_tfscript import RunTFScript
from beam_tfscript.errors import ArgumentError
from tests.running import script
from tests.test_run_batch import by_id, numbered
from tests.without_tensorflow import blocked

pytestmark = pytest.mark.tensorflow

SCHEMA = "id string, x float"

EVERY_KIND = (
    "id string not null, tiny tinyint, day date, at timestamp, clock time, price decimal(20, 2), exact float64, "
    "raw varbinary, grid tensor<float>(2, 2), vec vector(3), nested array<array<bigint>>, words array<string>"
)
NAMES = ["id", "tiny", "day", "at", "clock", "price", "exact", "raw", "grid", "vec", "nested", "words"]
KINDS_ROWS = [
    {
        "id": str(i),
        "tiny": i - 128,
        "day": datetime.date(1969, 12, 31) + datetime.timedelta(i),
        "at": Timestamp(micros=1_700_000_000_000_001 + i),
        "clock": datetime.time(23, 59, 59, i),
        "price": decimal.Decimal("-12345678901234567.89") + i,
        "exact": 0.1 * i,
        "raw": bytes([0, 255, i]),
        "grid": [[1.0, 2.0], [3.0, float(i)]],
        "vec": [0.5, -0.0, float("inf")],
        "nested": [[1, 2], [], [i]],
        "words": ["ä", ""],
    }
    for i in range(30)
] + [{"id": "null"} | dict.fromkeys(name for name in NAMES if name != "id")]


def plain(row):
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}


@pytest.mark.parametrize("entry", ["echo_typed", "echo_records"])
def test_every_kind_comes_back_exactly(runner, entry):
    transform = RunTFScript(script("echo.py"), EVERY_KIND, input_schema=EVERY_KIND, entry=entry, num_workers=2)
    assert by_id(map(plain, runner.run(transform, KINDS_ROWS))) == by_id(KINDS_ROWS)


@pytest.mark.parametrize("form", ["row", "dict", "example", "record_batch"])
def test_output_takes_the_form_asked_for(in_memory, form):
    transform = RunTFScript(script("echo.py"), SCHEMA, input_schema=SCHEMA, output_as=form)
    got = in_memory.run(transform, numbered(20))
    if form == "example":
        import tensorflow as tf

        features = [tf.train.Example.FromString(example).features.feature for example in got]
        got = [{"id": f["id"].bytes_list.value[0].decode(), "x": f["x"].float_list.value[0]} for f in features]
    elif form == "record_batch":
        assert all(batch.schema.names == ["id", "x"] for batch in got)
        got = [row for batch in got for row in batch.to_pylist()]
    assert by_id(got) == by_id(numbered(20))


def test_unknown_output_form_is_refused():
    with pytest.raises(ArgumentError, match="output_as must be one of 'row', 'dict'.*got 'json'"):
        RunTFScript(script("echo.py"), SCHEMA, output_as="json")


def batches(rows, size):
    return [pa.RecordBatch.from_pylist(rows[start : start + size]) for start in range(0, len(rows), size)]


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table])
def test_arrow_data_goes_in_whole(runner, kind):
    elements = batches(numbered(100), 30)
    if kind is pa.Table:
        elements = [pa.Table.from_batches([batch]) for batch in elements]
    transform = RunTFScript(script("echo.py"), SCHEMA, input_schema=SCHEMA, num_workers=3)
    # The order of their columns, and the widths of their integers and strings, may differ from the schema's.
    got = runner.run(
        transform, elements, before=lambda pcoll: pcoll | beam.Map(lambda batch: batch).with_output_types(kind)
    )
    assert by_id(got) == by_id(numbered(100))
    assert runner.metrics["rows_in"] == 100


def test_arrow_data_keeps_its_windows(in_memory):
    def window(pcoll):
        stamped = pcoll | beam.Map(lambda b: TimestampedValue(b, b["x"][0].as_py())).with_output_types(pa.RecordBatch)
        return stamped | beam.WindowInto(FixedWindows(10))

    transform = RunTFScript(
        script("echo.py"), "id string, shard bigint, window string", input_schema=SCHEMA, entry="list_ids"
    )
    rows = in_memory.run(transform, batches(numbered(30), 10), before=window)
    assert {(int(row["id"]) // 10 * 10, row["window"]) for row in rows} == {(0, "0-10"), (10, "10-20"), (20, "20-30")}
    assert len(rows) == 30


def test_bad_rows_of_arrow_data_go_to_the_dead_letters(in_memory):
    rows = [{"id": str(i), "n": 40_000 if i == 3 else i} for i in range(10)]
    transform = RunTFScript(
        script("echo.py"), "id string, n smallint", input_schema="id string, n smallint"
    ).with_exception_handling()
    outputs = in_memory.outputs(
        transform,
        batches(rows, 10),
        before=lambda pcoll: pcoll | beam.Map(lambda batch: batch).with_output_types(pa.RecordBatch),
    )
    assert sorted(int(output.row["id"]) for output in outputs["good"]) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    (bad,) = outputs["bad"]
    assert bad.row[0].to_pylist() == [rows[3]] and "40000" in bad.row[1][1]


@dataclasses.dataclass
class Measured:
    id: str
    x: float
    tags: Sequence[str]


def test_dataclass_with_a_beam_schema_needs_no_input_schema(in_memory):
    rows = [Measured(str(i), i / 2, ["a"] * (i % 3)) for i in range(10)]
    beam.coders.registry.register_coder(Measured, beam.coders.RowCoder)
    got = in_memory.run(
        RunTFScript(script("echo.py"), "id string, x double, tags array<string>"),
        rows,
        before=lambda pcoll: pcoll | beam.Map(lambda row: row).with_output_types(Measured),
    )
    assert by_id(got) == [dataclasses.asdict(row) for row in rows]


def test_numpy_records_are_rows(in_memory):
    records = np.array([("a", 1.5), ("b", 2.5)], dtype=[("id", "U8"), ("x", "f4")])
    got = in_memory.run(RunTFScript(script("echo.py"), SCHEMA, input_schema=SCHEMA), list(records))
    assert by_id(got) == [{"id": "a", "x": 1.5}, {"id": "b", "x": 2.5}]


@pytest.mark.parametrize("form", ["message", "bytes"])
def test_sequence_examples_are_passed_on_unread(in_memory, form):
    import tensorflow as tf

    def sequence(n):
        feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[n]))
        lists = {"steps": tf.train.FeatureList(feature=[feature] * n)}
        return tf.train.SequenceExample(feature_lists=tf.train.FeatureLists(feature_list=lists))

    rows = [sequence(n) for n in range(1, 5)]
    if form == "bytes":
        rows = [row.SerializeToString() for row in rows]
    transform = RunTFScript(script("echo.py"), "steps bigint", entry="count_steps")
    assert sorted(row["steps"] for row in in_memory.run(transform, rows)) == [1, 2, 3, 4]


def test_doubles_that_change_are_counted(in_memory):
    rows = [{"id": "a", "x": 0.1}, {"id": "b", "x": 0.5}, {"id": "c", "x": 1e-3}]
    transform = RunTFScript(script("echo.py"), "id string, x double", input_schema="id string, x double")
    got = in_memory.run(transform, rows)
    assert [row["x"] for row in by_id(got)] == [float(np.float32(row["x"])) for row in rows]
    assert in_memory.metrics["doubles_rounded"] == 2


def test_columns_of_python_floats_warn_once_each_and_float64_keeps_them(in_memory, tmp_path, caplog):
    now = 1_763_769_634.125
    rows = [beam.Row(id=str(i), at=now + i, x=1e300 if i == 150 else 0.1, half=0.5) for i in range(200)]
    (tmp_path / "quiet.py").write_text("def main(config):\n    pass\n")
    arguments = {"main_script_file": str(tmp_path / "quiet.py"), "env": blocked(tmp_path)}
    with caplog.at_level("WARNING", "beam_tfscript.dofns.row_gatherer"):
        in_memory.run(RunTFScript(**arguments), rows)
    at, x, infinite = sorted(
        (record.getMessage() for record in caplog.records if record.name == "beam_tfscript.dofns.row_gatherer"),
        key=lambda text: (text.partition(":")[0], "infinite" in text),
    )
    assert re.search(r"Column 'at' is double.*1763769634.125, which the script reads as 1763769600.0.*float64", at)
    assert re.search(r"Column 'x' is double.*such as 0.1, which.*Make the column float64 in input_schema", x)
    assert re.search(r"Column 'x' is double.*become infinite, such as 1e\+300.*float64", infinite)
    assert in_memory.metrics["doubles_infinite"] == 1
    caplog.clear()
    exact = "id string, at float64, x float64, half double"
    in_memory.run(RunTFScript(input_schema=exact, **arguments), rows)
    assert not [record for record in caplog.records if record.name == "beam_tfscript.dofns.row_gatherer"]


def test_null_scalar_is_an_error_in_the_script_and_never_a_zero(in_memory):
    schema = "id string, age bigint"
    transform = RunTFScript(script("echo.py"), schema, input_schema=schema)
    with pytest.raises(Exception, match="age"):
        in_memory.run(transform, [{"id": "a", "age": None}])


def test_default_stands_for_null_in_the_script(in_memory):
    transform = RunTFScript(script("echo.py"), "id string, age bigint", input_schema="id string, age bigint default -1")
    assert in_memory.run(transform, [{"id": "a", "age": None}]) == [{"id": "a", "age": -1}]

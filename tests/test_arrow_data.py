"""Arrow data from Beam's Parquet files through a script and back into files, and batches with plain types."""

from __future__ import annotations

import glob

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from hypothesis import given

from beam_tfscript import RunTFScript
from beam_tfscript.data.plain_arrow import plain_record_batches, plain_schema
from beam_tfscript.data.rows import rows_to_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError, OutputError
from tests.running import script
from tests.strategies import schemas_and_rows
from tests.test_conformance import ECHO
from tests.without_tensorflow import blocked, ids, run_of

pytestmark = pytest.mark.tensorflow

TAGGED = "id string, tags array<string>, raw varbinary"


def tables(count: int, size: int) -> list[pa.Table]:
    rows = ids(count)
    return [pa.Table.from_pylist(rows[start : start + size]) for start in range(0, count, size)]


@pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
@pytest.mark.parametrize("window", [None, FixedWindows(10)], ids=["global", "windows"])
def test_tables_without_a_type_are_taken_in_every_feed(in_memory, tmp_path, feed, window):
    def before(elements):
        stamped = elements | beam.Map(lambda table: TimestampedValue(table, int(table["id"][0].as_py())))
        return stamped if window is None else stamped | beam.WindowInto(window)

    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path))
    rows = in_memory.run(transform, tables(60, 10), before=before)
    assert sorted(int(row["id"]) for row in rows) == list(range(60))
    if window is not None and feed != "bundles":
        starts = {f"{start:g}-{start + 10:g}" for start in range(0, 60, 10)}
        assert {row["window"] for row in rows} == starts


@pytest.mark.parametrize("feed", ["dataset", "bundles"])
def test_tables_may_be_mixed_with_rows_and_with_bad_rows(in_memory, tmp_path, feed):
    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path), input_schema="id string not null")
    transform = transform.with_exception_handling()
    bad = pa.table({"id": pa.array(["7", None])})
    elements = [*ids(3), pa.Table.from_pylist(ids(3, start=3)), *ids(1, start=6), {"id": 8}, bad]
    outputs = in_memory.outputs(transform, elements)
    assert sorted(int(output.row["id"]) for output in outputs["good"]) == list(range(8))
    found = [output.row[0] for output in outputs["bad"]]
    found = [element if isinstance(element, dict) else element.to_pylist()[0] for element in found]
    assert sorted(map(str, found)) == ["{'id': 8}", "{'id': None}"]


def test_tables_without_a_schema_are_refused_with_the_reason(tmp_path):
    pq.write_table(tables(3, 3)[0], tmp_path / "in.parquet")
    pipeline = beam.Pipeline()
    read = pipeline | beam.io.ReadFromParquetBatched(str(tmp_path / "*.parquet"))
    with pytest.raises(ArgumentError, match="ReadFromParquetBatched gives Arrow tables.*input_schema="):
        read | "read" >> RunTFScript(script("echo.py"), "id string")
    typed = pipeline | beam.Create(tables(3, 3)) | beam.Map(lambda table: table).with_output_types(pa.Table)
    with pytest.raises(ArgumentError, match="the elements are Arrow tables.*input_schema="):
        typed | "typed" >> RunTFScript(script("echo.py"), "id string")
    # What becomes of them is no longer what was read.
    mapped = read | beam.Map(lambda table: table.num_rows)
    with pytest.raises(ArgumentError, match="its elements are Any"):
        mapped | "mapped" >> RunTFScript(script("echo.py"), "id string")


@pytest.mark.parametrize("schema", ["obvious", "of the transform"])
def test_parquet_files_go_through_a_script_into_parquet_files(tmp_path, schema):
    table = pa.table({"id": ["a", "b", "c"], "tags": [["x", "ä"], [], None], "raw": [b"1", None, b""]})
    pq.write_table(table.slice(0, 2), tmp_path / "in-0.parquet")
    pq.write_table(table.slice(2), tmp_path / "in-1.parquet")
    transform = RunTFScript(script("echo.py"), TAGGED, input_schema=TAGGED, output_as="record_batch", entry="echo_file")
    own = pa.schema([("id", pa.string()), ("tags", pa.list_(pa.string())), ("raw", pa.binary())])
    with beam.Pipeline() as pipeline:
        (
            pipeline
            | beam.io.ReadFromParquetBatched(str(tmp_path / "in-*.parquet"))
            | transform
            | beam.Map(lambda batch: pa.Table.from_batches([batch]))
            | beam.io.WriteToParquetBatched(
                str(tmp_path / "out"), own if schema == "obvious" else transform.output_arrow_schema
            )
        )
    written = pa.concat_tables(map(pq.read_table, glob.glob(str(tmp_path / "out*"))))
    assert written.sort_by("id").to_pydict() == table.to_pydict()
    assert transform.output_arrow_schema.equals(own)


def test_no_output_has_no_arrow_schema():
    assert RunTFScript(script("echo.py")).output_arrow_schema is None


@given(schemas_and_rows(max_columns=4))
def test_plain_batches_hold_the_same_values(case):
    schema, rows = case
    batch = rows_to_record_batch(rows, schema)
    for start in (0, 1):
        part = batch.slice(min(start, batch.num_rows))
        plain = list(plain_record_batches(part, schema))
        assert [one.schema for one in plain] == [plain_schema(schema)] * bool(part.num_rows)
        for one in plain:
            one.validate(full=True)
            assert str(one.to_pylist()) == str(part.to_pylist())
    assert "large" not in str(plain_schema(schema).types)
    assert Schema.from_arrow(plain_schema(schema)) == schema


def huge(lengths: list[int], kind: str) -> pa.Array:
    """Values of these lengths, whose zeros take no memory until they are read."""
    offsets = pa.py_buffer(np.cumsum([0, *lengths]))
    zeros = np.zeros(sum(lengths), np.int8)
    if kind == "array<tinyint>":
        children = [pa.array(zeros)]
        return pa.Array.from_buffers(pa.large_list(pa.int8()), len(lengths), [None, offsets], children=children)
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), [None, offsets, pa.py_buffer(zeros)])


@pytest.mark.parametrize("kind", ["varbinary", "array<tinyint>"])
def test_batches_of_more_than_two_gibibytes_are_split(kind):
    schema = Schema.parse(f"x {kind}")
    lengths = [2**30, 2**30, 5, 2**30, 7]
    batch = pa.RecordBatch.from_arrays([huge(lengths, kind)], schema=schema.to_arrow())
    parts = list(plain_record_batches(batch, schema))
    sizes = "binary_length" if kind == "varbinary" else "list_value_length"
    assert [n for part in parts for n in pa.compute.call_function(sizes, [part["x"]]).to_pylist()] == lengths
    assert len(parts) > 1 and all(part.num_rows for part in parts)
    batch = pa.RecordBatch.from_arrays([huge([5, 2**31], kind)], schema=schema.to_arrow())
    with pytest.raises(OutputError, match="more than 2 GiB"):
        list(plain_record_batches(batch, schema))

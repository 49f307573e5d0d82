"""Sources and sinks of batches without a script: CSV, JSON lines, Parquet and TFRecord, with exact types."""

from __future__ import annotations

import datetime
import decimal
import glob
import pathlib
import zlib

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import ExampleChunk, ReadCsv, ReadJsonLines, WriteCsv, WriteExamples, WriteJsonLines, WriteParquet
from beam_tfscript.data import tfrecord
from beam_tfscript.data.align import align_record_batch
from beam_tfscript.data.plain_arrow import plain_schema
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError, SchemaError

SCALARS = (
    "id string, small tinyint, big bigint, real float, exact float64, flag boolean, day date, at timestamp, "
    "price decimal(20, 2), clock time, fine timestamp(9)"
)
# Nanoseconds since 1970, which Python's datetime cannot hold.
NANOS = 1_700_000_000_000_000_001
ROWS = [
    {
        "id": 'a "quoted", text\nof two lines',
        "small": -128,
        "big": 2**62 + 1,
        "real": 0.5,
        "exact": 0.1,
        "flag": True,
        "day": datetime.date(1969, 12, 31),
        "at": datetime.datetime(2024, 2, 29, 12, 30, 1, 5, datetime.timezone.utc),
        "price": decimal.Decimal("123456789012345678.90"),
        "clock": datetime.time(23, 59, 59, 1),
        "fine": NANOS,
    },
    {
        "id": "ä",
        "small": 127,
        "big": -(2**63),
        "real": -1.5,
        "exact": 1e300,
        "flag": False,
        "day": datetime.date(9999, 1, 1),
        "at": datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, datetime.timezone.utc),
        "price": decimal.Decimal("-0.01"),
        "clock": datetime.time(0, 0),
        "fine": -1,
    },
]
NULLS = {"id": "nulls"} | dict.fromkeys(list(ROWS[0])[1:])


class Whole(beam.PTransform):
    """A reader as the whole pipeline."""

    def __init__(self, reader):
        super().__init__()
        self._reader = reader

    def expand(self, pipeline):
        return pipeline | self._reader


class Written(beam.PTransform):
    """Elements to files; gives the files' names."""

    def __init__(self, elements, writer):
        super().__init__()
        self._elements = elements
        self._writer = writer

    def expand(self, pipeline):
        return pipeline | beam.Create(self._elements) | self._writer


def rows_of(batches, schema):
    """Return the rows of Arrow batches, in the types of a schema; nanoseconds are integers."""
    rows = []
    for batch in batches:
        aligned = align_record_batch(batch, Schema.parse(schema))
        columns = [c.cast(pa.int64()) if c.type == pa.timestamp("ns", "UTC") else c for c in aligned.columns]
        rows += pa.table(columns, names=aligned.schema.names).to_pylist()
    return rows


def batch_of(rows, schema=SCALARS):
    return pa.RecordBatch.from_pylist(rows, schema=plain_schema(Schema.parse(schema)))


def files(tmp_path, pattern="out*"):
    return sorted(map(pathlib.Path, glob.glob(str(tmp_path / pattern))))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("writer", "reader", "name"),
    [(WriteCsv, ReadCsv, "csv"), (WriteJsonLines, ReadJsonLines, "jsonl")],
)
def test_text_files_hold_all_types_exactly(in_memory, tmp_path, writer, reader, name, suffix):
    rows = [*ROWS, NULLS]
    batches = [batch_of(rows[:2]), pa.Table.from_batches([batch_of(rows[2:])])]
    write = writer(str(tmp_path / "out"), SCALARS, file_name_suffix=f".{name}{suffix}")
    assert list(in_memory.run(Written(batches, write))) == list(map(str, files(tmp_path)))
    found = in_memory.run(Whole(reader(str(tmp_path / f"out*.{name}{suffix}"), SCALARS)))
    assert all(isinstance(batch, pa.RecordBatch) for batch in found)
    assert sorted(rows_of(found, SCALARS), key=str) == sorted(rows, key=str)


def test_json_lines_hold_arrays(in_memory, tmp_path):
    schema = (
        "id string, x array<float>, words array<string>, nested array<array<bigint>>, days array<date>, "
        "clocks array<time>, times array<timestamp>"
    )
    rows = [
        {
            "id": "a", "x": [0.5, 1.0], "words": ["ä", ""], "nested": [[1, 2**53 + 1], []],
            "days": [datetime.date(2024, 2, 29)], "clocks": [datetime.time(1, 2, 3, 4), datetime.time(0)],
            "times": [datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.timezone.utc)],
        },
        {"id": "b", "x": [], "words": None, "nested": None, "days": [], "clocks": None, "times": []},
    ]  # fmt: skip
    in_memory.run(Written([batch_of(rows, schema)], WriteJsonLines(str(tmp_path / "out"), schema)))
    found = in_memory.run(Whole(ReadJsonLines(str(tmp_path / "out*"), schema)))
    assert rows_of(found, schema) == rows


def test_parquet_files_get_few_row_groups(in_memory, tmp_path, monkeypatch):
    batches = [batch_of([{**ROWS[0], "big": i}]) for i in range(50)]
    in_memory.run(Written(batches, WriteParquet(str(tmp_path / "out"), SCALARS, codec="zstd")))
    (path,) = files(tmp_path)
    assert path.suffix == ".parquet" and pq.ParquetFile(path).num_row_groups == 1
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert sorted(row["big"] for row in rows_of(pq.read_table(path).to_batches(), SCALARS)) == list(range(50))
    monkeypatch.setattr("beam_tfscript.io.batch_sinks._ROW_GROUP_BYTES", 10 * batches[0].nbytes)
    in_memory.run(Written(batches, WriteParquet(str(tmp_path / "small"), SCALARS)))
    assert 2 <= pq.ParquetFile(files(tmp_path, "small*")[0]).num_row_groups <= 10


def test_long_json_lines_are_read_in_blocks(in_memory, tmp_path, monkeypatch):
    monkeypatch.setattr("beam_tfscript.io.arrow_readers._BLOCK_BYTES", 100)
    lines = [f'{{"id": "{i}", "x": [{", ".join(["1.5"] * (i % 60))}]}}' for i in range(200)]
    lines[7] += "\n\n  "
    (tmp_path / "in.jsonl").write_text("\n".join(lines))  # no newline at the end
    found = rows_of(
        in_memory.run(Whole(ReadJsonLines(str(tmp_path / "in.jsonl"), "id string, x array<float>"))),
        "id string, x array<float>",
    )
    assert [(row["id"], len(row["x"])) for row in found] == [(str(i), i % 60) for i in range(200)]


@pytest.mark.parametrize("reader", [ReadCsv, ReadJsonLines])
def test_empty_files_have_no_rows(in_memory, tmp_path, reader):
    (tmp_path / "in-0").write_bytes(b"")
    assert rows_of(in_memory.run(Whole(reader(str(tmp_path / "in-*"), "id string"))), "id string") == []


@pytest.mark.parametrize(
    ("reader", "text", "shown"),
    [
        (ReadCsv, "id,x\na,1\nb,no\n", r"in\.txt cannot be read: .*no"),
        (ReadCsv, "id,x\na,1,2\n", r"in\.txt cannot be read: .*Expected 2 columns, got 3"),
        (ReadCsv, "id,y\na,1\n", r"in\.txt: .*x"),
        (ReadJsonLines, '{"id": "a", "x": 1}\n{"id": "b", "x": "no"}\n', r"in\.txt cannot be read: "),
        (ReadJsonLines, '{"id": "a"\n', r"in\.txt cannot be read: "),
    ],
)
def test_files_that_do_not_fit_are_named(in_memory, tmp_path, reader, text, shown):
    (tmp_path / "in.txt").write_text(text)
    with pytest.raises(Exception, match=shown):
        in_memory.run(Whole(reader(str(tmp_path / "in.txt"), "id string, x bigint")))


@pytest.mark.parametrize("reader", [ReadCsv, ReadJsonLines])
def test_compressed_file_that_is_cut_between_two_lines_is_told(in_memory, tmp_path, reader):
    text = "id\na\nb\n" if reader is ReadCsv else '{"id": "a"}\n{"id": "b"}\n'
    compressor = zlib.compressobj(wbits=31)
    data = compressor.compress(text.encode()) + compressor.flush(zlib.Z_FULL_FLUSH)
    (tmp_path / "in.gz").write_bytes(data)
    with pytest.raises(Exception, match=r"in\.gz cannot be read: its compressed data is cut short"):
        in_memory.run(Whole(reader(str(tmp_path / "in.gz"), "id string")))


def test_what_cannot_be_read_or_written_is_refused_while_the_pipeline_is_built(tmp_path):
    for reader in (ReadCsv, ReadJsonLines):
        with pytest.raises(ArgumentError, match="There is no file"):
            reader(str(tmp_path / "none-*"), "id string")
        reader(str(tmp_path / "none-*"), "id string", validate=False)
        with pytest.raises(SchemaError):
            reader(str(tmp_path / "none-*"), "id strink", validate=False)
    with pytest.raises(SchemaError, match="CSV has no arrays"):
        ReadCsv(str(tmp_path / "none-*"), "x array<float>", validate=False)
    with pytest.raises(SchemaError, match="CSV has no arrays"):
        WriteCsv(str(tmp_path / "out"), "x array<float>")


def test_files_without_rows_are_whole_files(in_memory, tmp_path):
    for writer in (WriteCsv, WriteJsonLines, WriteParquet):
        in_memory.run(Written([], writer(str(tmp_path / f"out-{writer.__name__}"), SCALARS)))
    csv, json, parquet = files(tmp_path)
    assert csv.read_text() == ",".join(f'"{name}"' for name in ROWS[0]) + "\n"
    assert json.read_bytes() == b""
    assert pq.read_table(parquet).num_rows == 0
    in_memory.run(Written([], WriteExamples(str(tmp_path / "none"))))
    assert [path.read_bytes() for path in files(tmp_path, "none*")] == [b""]


def test_batches_are_taken_with_their_columns_in_any_order(in_memory, tmp_path):
    table = pa.table({"more": [1], "x": pa.array([2], pa.int32()), "id": ["a"]})
    in_memory.run(Written([table], WriteParquet(str(tmp_path / "out"), "id string, x bigint")))
    assert pq.read_table(files(tmp_path)[0]).to_pylist() == [{"id": "a", "x": 2}]


@pytest.mark.parametrize(
    ("element", "writer", "shown"),
    [
        (
            pa.table({"id": ["a"]}),
            lambda path: WriteParquet(path, "id string, x bigint"),
            "do not fit the schema of its file",
        ),
        ({"id": "a"}, lambda path: WriteCsv(path, "id string"), "takes Arrow record batches and tables, got a dict"),
        ({"id": "a"}, WriteExamples, "WriteExamples takes chunks of Examples, and serialized Examples, got a dict"),
    ],
)
def test_elements_that_a_file_cannot_hold_are_refused(in_memory, tmp_path, element, writer, shown):
    with pytest.raises(Exception, match=shown):
        in_memory.run(Written([element], writer(str(tmp_path / "out"))))


class Failing(beam.DoFn):
    """Fails behind the sink's input, the first time in each place."""

    def __init__(self, marks):
        self._marks = marks

    def finish_bundle(self):
        mark = pathlib.Path(self._marks)
        if not mark.exists():
            mark.write_text("x")
            raise RuntimeError("the bundle fails once")

    def process(self, element):
        yield element


def test_repeated_bundles_leave_no_second_file(tmp_path, caplog):
    from tests.running import Runner

    class Repeated(beam.PTransform):
        def expand(self, pipeline):
            chunks = pipeline | beam.Create([ExampleChunk([b"%d" % i]) for i in range(10)])
            written = chunks | WriteExamples(str(tmp_path / "out"))
            # In the bundle of the writer, before its file is complete.
            _ = chunks | "Fail" >> beam.ParDo(Failing(str(tmp_path / "mark")))
            return written

    names = Runner("bundle_based", tmp_path).run(Repeated())
    assert "the bundle fails once" in caplog.text
    assert sorted(names) == list(map(str, files(tmp_path, "out*.tfrecord")))
    assert sorted(r for path in names for r in tfrecord.read(path)) == [b"%d" % i for i in range(10)]


def test_unbounded_input_is_written_window_by_window(tmp_path):
    from tests.running import Runner

    class Streamed(beam.PTransform):
        def expand(self, pipeline):
            elements = [TimestampedValue(ExampleChunk([b"%d" % i]), i) for i in range(20)]
            stream = TestStream().advance_watermark_to(0).add_elements(elements).advance_watermark_to_infinity()
            return pipeline | stream | beam.WindowInto(FixedWindows(10)) | WriteExamples(str(tmp_path / "out"))

    Runner("bundle_based", tmp_path).run(Streamed(), options=["--streaming"])
    found = sorted(sorted(map(int, tfrecord.read(str(path)))) for path in files(tmp_path, "out*.tfrecord"))
    assert found == [list(range(10)), list(range(10, 20))]


def test_csv_has_the_same_nulls_in_columns_of_all_types(in_memory, tmp_path):
    (tmp_path / "in.csv").write_text("id,x,at,day\na,1,2024-02-29,2024-02-29\nNULL,NULL,NULL,NULL\n,,,\n")
    schema = "id string, x bigint, at timestamp, day date"
    found = rows_of(in_memory.run(Whole(ReadCsv(str(tmp_path / "in.csv"), schema))), schema)
    nulls = {"x": None, "at": None, "day": None}
    assert found[1:] == [{"id": "NULL", **nulls}, {"id": "", **nulls}]
    assert found[0]["at"].date() == found[0]["day"] == datetime.date(2024, 2, 29)


@pytest.mark.parametrize("reader", [ReadCsv, ReadJsonLines])
def test_timestamps_may_have_a_time_zone_or_none(in_memory, tmp_path, reader):
    texts = {
        "2024-02-29 12:30:01": 12,
        "2024-02-29T12:30:01.5": 12,
        "2024-02-29T12:30:01Z": 12,
        "2024-02-29T12:30+02:00": 10,
    }
    for index, text in enumerate(texts):
        lines = f"at\n{text}\n" if reader is ReadCsv else f'{{"at": "{text}"}}\n'
        (tmp_path / f"in-{index}").write_text(lines)
    rows = rows_of(in_memory.run(Whole(reader(str(tmp_path / "in-*"), "at timestamp"))), "at timestamp")
    assert sorted(row["at"].hour for row in rows) == sorted(texts.values())

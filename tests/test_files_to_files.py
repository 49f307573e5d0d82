"""Batches through a script in every feed: files in, files out, with windows, dead letters, retries and exact types."""

from __future__ import annotations

import glob
import pickle

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue

from beam_tfscript import (
    ExampleChunk,
    ReadCsv,
    ReadExamples,
    ReadJsonLines,
    RunTFScript,
    WriteExamples,
    WriteParquet,
)
from beam_tfscript.cli.formats import format_of
from beam_tfscript.cli.row_files import ReadRows, WriteRows
from beam_tfscript.data import tfrecord
from beam_tfscript.data.examples import ExampleDecoder, ExampleEncoder
from beam_tfscript.data.rows import rows_to_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError, RowError
from tests.cli_files import NAMES, write_rows
from tests.cli_files import SCHEMA as FILES_SCHEMA
from tests.running import Runner, script
from tests.test_conformance import ECHO
from tests.test_run_forms import EVERY_KIND, KINDS_ROWS
from tests.without_tensorflow import SCHEMA, blocked, ids, run_of

FEEDS = pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])


def examples(rows, schema="id string"):
    return ExampleEncoder(Schema.parse(schema)).encode_rows(rows)


def chunks(count, size):
    return [ExampleChunk(examples(ids(min(size, count - start), start=start))) for start in range(0, count, size)]


def rows_of(records, schema=SCHEMA):
    return ExampleDecoder(Schema.parse(schema)).decode(list(records)).to_pylist()


def read_files(pattern):
    return [record for path in sorted(glob.glob(str(pattern))) for record in tfrecord.read(path)]


class FileToFile(beam.PTransform):
    """TFRecord files through a transform to TFRecord files."""

    def __init__(self, pattern, transform, prefix):
        super().__init__()
        self._pattern, self._transform, self._prefix = str(pattern), transform, str(prefix)

    def expand(self, pipeline):
        return pipeline | ReadExamples(self._pattern) | self._transform | WriteExamples(self._prefix)


@FEEDS
def test_chunks_are_taken_with_and_without_a_type_and_mixed_with_all_other_forms(in_memory, tmp_path, feed):
    elements = [
        *chunks(30, 12),
        *ids(5, start=30),
        pa.Table.from_pylist(ids(5, start=35)),
        pa.RecordBatch.from_pylist(ids(5, start=40)),
        *ids(5, start=45),
    ]
    for arguments in ({}, {"num_workers": 3}):
        if feed != "bundles" or not arguments:
            transform = run_of(ECHO[feed], feed, env=blocked(tmp_path), **arguments)
            assert sorted(int(row["id"]) for row in in_memory.run(transform, elements)) == list(range(50))

    def typed(pcoll):
        return pcoll | beam.Map(lambda chunk: chunk).with_output_types(ExampleChunk)

    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path))
    assert len(in_memory.run(transform, chunks(30, 7), before=typed)) == 30
    unread = run_of(ECHO[feed], feed, env=blocked(tmp_path), input_schema=None)
    assert len(in_memory.run(unread, chunks(30, 7), before=typed)) == 30


@FEEDS
def test_large_chunk_is_sent_in_parts(in_memory, tmp_path, feed):
    """As one frame it would exceed what may be in flight."""
    records = [b"%d" % i + bytes(100_000) for i in range(300)]
    (tmp_path / "sizes.py").write_text(
        "def main(config):\n"
        "    if config.feed is None:\n"
        "        import os\n"
        "        return config.write(n=config.dataset_length, size=os.path.getsize(config.dataset_file))\n"
        "    for batch in config.example_batches(64):\n"
        "        config.write(n=len(batch), size=sum(map(len, batch)))\n"
    )
    transform = RunTFScript(str(tmp_path / "sizes.py"), "n int, size bigint", feed=feed, env=blocked(tmp_path))

    def typed(pcoll):
        return pcoll | beam.Map(lambda chunk: chunk).with_output_types(ExampleChunk)

    rows = in_memory.run(transform, [ExampleChunk(records)], before=typed)
    assert sum(row["n"] for row in rows) == 300
    assert sum(row["size"] for row in rows) >= sum(map(len, records))


@FEEDS
@pytest.mark.parametrize("form", ["examples", "record_batch"])
def test_rows_of_an_output_batch_share_a_window(in_memory, tmp_path, feed, form):
    def before(elements):
        stamped = elements | beam.Map(lambda chunk: TimestampedValue(chunk, int(rows_of(chunk, "id string")[0]["id"])))
        return stamped | beam.WindowInto(FixedWindows(20))

    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path), output_as=form)
    outputs = in_memory.outputs(transform, chunks(60, 5), before=before)["good"]
    found = []
    for output in outputs:
        rows = rows_of(output.row) if form == "examples" else output.row.to_pylist()
        start, end = output.window
        assert rows and {int(row["id"]) // 20 * 20.0 for row in rows} == {start}
        if feed == "bundles":
            assert output.timestamp == min(int(row["id"]) for row in rows) // 5 * 5.0
        else:
            assert output.timestamp == pytest.approx(end, abs=0.01)
        found += [int(row["id"]) for row in rows]
    assert sorted(found) == list(range(60))


@FEEDS
def test_chunk_in_several_windows_is_read_in_each(in_memory, tmp_path, feed):
    def before(elements):
        stamped = elements | beam.Map(lambda chunk: TimestampedValue(chunk, 15))
        return stamped | beam.WindowInto(SlidingWindows(20, 10))

    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path), output_as="examples")
    outputs = in_memory.outputs(transform, chunks(10, 10), before=before)["good"]
    windows = {output.window for output in outputs for _ in output.row}
    assert windows == {(0.0, 20.0), (10.0, 30.0)}
    assert sum(len(output.row) for output in outputs) == 20


def test_single_rows_of_several_windows_come_out_in_a_batch_per_window(in_memory, tmp_path):
    def before(rows):
        return rows | beam.Map(lambda row: TimestampedValue(row, int(row["id"]))) | beam.WindowInto(FixedWindows(10))

    transform = run_of("echo", "bundles", env=blocked(tmp_path), output_as="record_batch", params={"n": 100})
    outputs = in_memory.outputs(transform, ids(40), before=before)["good"]
    assert sorted(output.window for output in outputs) == [(float(s), s + 10.0) for s in (0, 10, 20, 30)]


@FEEDS
def test_bad_examples_of_a_chunk_are_dead_letters_row_by_row(in_memory, tmp_path, feed):
    good = chunks(30, 10)
    bad = [b"\xff no Example", *examples([{"x": 1}], "x bigint")]
    mixed = [*good[:2], ExampleChunk([bad[0], *good[2], bad[1]])]
    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path), input_schema="id string not null")
    outputs = in_memory.outputs(transform.with_exception_handling(threshold=0.07), mixed)
    assert sorted(int(output.row["id"]) for output in outputs["good"]) == list(range(30))
    assert sorted(output.row[0] for output in outputs["bad"]) == sorted(bad)
    assert {output.row[1][0] for output in outputs["bad"]} == {RowError}
    assert in_memory.metrics["rows_bad"] == 2 and in_memory.metrics["rows_in"] == 30


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table])
def test_bad_row_of_a_large_batch_is_small(in_memory, tmp_path, kind):
    batch = kind.from_pylist([{"id": "x" * 100}] * 1000 + [{"id": None}])
    transform = run_of("echo_all", "bundles", env=blocked(tmp_path), input_schema="id string not null")

    class Sizes(beam.PTransform):
        def expand(self, batches):
            return (batches | transform.with_exception_handling()).bad | beam.Map(lambda bad: len(pickle.dumps(bad[0])))

    (size,) = in_memory.run(Sizes(), [batch])
    assert size < 2000


def test_threshold_counts_the_rows_of_batches(in_memory, tmp_path):
    bad = pa.table({"id": pa.array(["7", None])})
    transform = run_of("echo", "bundles", env=blocked(tmp_path), input_schema="id string not null")
    # One of 41 rows, and one of three elements.
    elements = [*chunks(39, 39), bad]
    assert len(in_memory.outputs(transform.with_exception_handling(threshold=0.03), elements)["bad"]) == 1
    with pytest.raises(Exception, match="1 of 41 rows are bad"):
        in_memory.outputs(transform.with_exception_handling(threshold=0.02), elements)


def test_bad_outputs_are_dead_letters_and_leave_their_chunk(in_memory, tmp_path):
    (tmp_path / "mixed.py").write_text(
        "def main(config):\n"
        "    for batch in config.example_batches(100):\n"
        "        for number, example in enumerate(batch):\n"
        "            config.output_writer.write(example if number % 10 else b'\\xff')\n"
    )
    for form in ("examples", "record_batch"):
        transform = RunTFScript(
            str(tmp_path / "mixed.py"), "id string", input_schema="id string", feed="bundles", output_as=form,
            env=blocked(tmp_path),
        ).with_exception_handling()  # fmt: skip
        outputs = in_memory.outputs(transform, chunks(100, 50))
        kept = [output.row for output in outputs["good"]]
        count = sum(len(batch) if form == "examples" else batch.num_rows for batch in kept)
        assert (count, [output.row[0] for output in outputs["bad"]]) == (90, [b"\xff"] * 10)


@pytest.mark.parametrize("how", ["kill", "raise"])
@FEEDS
def test_failed_runs_are_repeated_and_files_hold_each_row_once(in_memory, tmp_path, feed, how):
    (tmp_path / "in.tfrecord").write_bytes(tfrecord.frame(examples(ids(60))))
    params = {"at": "30", "times": 2, "marks": str(tmp_path / "marks"), "how": how, "n": 8}
    arguments = {"replay": False} if feed == "stream" else {}
    transform = run_of(
        "echo_all", feed, params=params, env=blocked(tmp_path), max_attempts=3, output_as="examples", **arguments
    )
    in_memory.run(FileToFile(tmp_path / "in.tfrecord", transform, tmp_path / "out"))
    assert sorted(int(row["id"]) for row in rows_of(read_files(tmp_path / "out*"))) == list(range(60))
    assert in_memory.metrics["runs_failed"] == 2


def test_batch_that_kills_its_process_is_dead_letters_of_examples(in_memory, tmp_path):
    params = {"at": "30", "times": 100, "marks": str(tmp_path / "marks"), "how": "kill", "n": 8}
    transform = run_of("echo", "bundles", params=params, env=blocked(tmp_path), max_attempts=2, output_as="examples")
    outputs = in_memory.outputs(transform.with_exception_handling(), chunks(60, 60))
    good = sorted(int(row["id"]) for output in outputs["good"] for row in rows_of(output.row))
    bad = sorted(int(rows_of([output.row[0]], "id string")[0]["id"]) for output in outputs["bad"])
    assert sorted(good + bad) == list(range(60)) and 30 in bad and len(bad) == 8


def test_bundle_that_the_runner_repeats_leaves_no_second_file(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    (tmp_path / "in.tfrecord").write_bytes(tfrecord.frame(examples(ids(60))))
    params = {"at": "30", "times": 1, "marks": str(tmp_path / "marks"), "how": "raise", "n": 8}
    transform = run_of("echo", "bundles", params=params, env=blocked(tmp_path), max_attempts=1, output_as="examples")
    names = Runner("bundle_based", tmp_path).run(FileToFile(tmp_path / "in.tfrecord", transform, tmp_path / "out"))
    assert "no more of this" in caplog.text
    assert sorted(names) == sorted(glob.glob(str(tmp_path / "out*.tfrecord")))
    assert sorted(int(row["id"]) for row in rows_of(read_files(tmp_path / "out*"))) == list(range(60))


@FEEDS
def test_selected_columns_and_shards_need_the_rows_of_a_chunk(in_memory, tmp_path, feed):
    rows = [{"id": str(i), "more": i % 3} for i in range(50)]
    elements = [ExampleChunk(examples(rows, "id string, more bigint"))]
    keyed = {} if feed == "bundles" else {"shard_by": "more", "num_workers": 2}
    transform = run_of(
        ECHO[feed], feed, env=blocked(tmp_path), input_schema="id string, more bigint", selected_cols=["id"], **keyed
    )
    assert sorted(int(row["id"]) for row in in_memory.run(transform, elements)) == list(range(50))


@pytest.mark.tensorflow
@pytest.mark.parametrize("form", ["tfrecord", "parquet"])
@pytest.mark.parametrize("feed", ["dataset", "bundles"])
def test_all_types_go_from_files_to_files_exactly(in_memory, tmp_path, feed, form):
    schema = Schema.parse(EVERY_KIND)
    # The script reads nulls as errors, so only rows without any.
    batch = rows_to_record_batch(KINDS_ROWS[:-1], schema)
    transform = RunTFScript(
        script("echo.py"), EVERY_KIND, input_schema=EVERY_KIND, feed=feed,
        output_as="examples" if form == "tfrecord" else "record_batch",
    )  # fmt: skip
    if form == "tfrecord":
        (tmp_path / "in.tfrecord").write_bytes(tfrecord.frame(ExampleEncoder(schema).encode(batch)))
        in_memory.run(FileToFile(tmp_path / "in.tfrecord", transform, tmp_path / "out"))
        found = ExampleDecoder(schema).decode(read_files(tmp_path / "out*"))
    else:
        pq.write_table(pa.Table.from_batches([batch]), tmp_path / "in.parquet")

        class Parquet(beam.PTransform):
            def expand(self, pipeline):
                read = pipeline | beam.io.ReadFromParquetBatched(str(tmp_path / "in.parquet"))
                return read | transform | WriteParquet(str(tmp_path / "out"), EVERY_KIND)

        (name,) = in_memory.run(Parquet())
        table = pq.read_table(name)
        assert table.schema.equals(transform.output_arrow_schema)
        found = table.cast(schema.to_arrow()).combine_chunks().to_batches()[0]
    assert found.sort_by("id").equals(batch.sort_by("id"))


@pytest.mark.parametrize("reader", [ReadCsv, ReadJsonLines])
def test_columns_of_a_reader_are_those_of_the_input(in_memory, tmp_path, reader):
    name = "rows.csv" if reader is ReadCsv else "rows.jsonl"
    path = write_rows(tmp_path / name)
    transform = run_of("echo", "bundles", env=blocked(tmp_path), input_schema=None, selected_cols=["id"])

    class Reading(beam.PTransform):
        def expand(self, pipeline):
            return pipeline | reader(path, FILES_SCHEMA) | transform

    assert sorted(row["id"] for row in in_memory.run(Reading())) == sorted(f"r{i}" for i in range(30))
    with pytest.raises(ArgumentError, match="the elements are Arrow tables or batches"):
        batches = beam.Pipeline() | reader(path, FILES_SCHEMA)
        batches | beam.Map(lambda batch: batch).with_output_types(pa.RecordBatch) | transform


@pytest.mark.parametrize("name", NAMES)
def test_command_line_reads_and_writes_batches(in_memory, tmp_path, name):
    path = write_rows(tmp_path / name)
    file_format = format_of(path, None)
    schema = Schema.parse(FILES_SCHEMA)

    class Whole(beam.PTransform):
        def expand(self, pipeline):
            batches = pipeline | ReadRows(path, file_format, schema)
            expected = {"tfrecord": ExampleChunk, "parquet": pa.Table}.get(file_format, pa.RecordBatch)
            assert issubclass(batches.element_type, expected)
            _ = batches | WriteRows(str(tmp_path / "out"), file_format, schema)
            return batches | beam.Map(lambda batch: batch.num_rows)

    assert sum(in_memory.run(Whole())) == 30
    assert len(glob.glob(str(tmp_path / "out*"))) == 1


@pytest.mark.tensorflow
@pytest.mark.parametrize("form", ["examples", "csv"])
def test_batches_are_side_inputs(in_memory, tmp_path, form):
    words = [{"id": f"r{i}", "word": f"w{i}"} for i in range(30)]
    (tmp_path / "words.csv").write_text("id,word\n" + "".join(f"{row['id']},{row['word']}\n" for row in words))
    (tmp_path / "words.tfrecord").write_bytes(tfrecord.frame(examples(words, "id string, word string")))
    path = write_rows(tmp_path / "rows.tfrecord")

    class Joined(beam.PTransform):
        def expand(self, pipeline):
            if form == "csv":
                side = pipeline | "Words" >> ReadCsv(str(tmp_path / "words.csv"), "id string, word string")
            else:
                side = pipeline | "Words" >> ReadExamples(str(tmp_path / "words.tfrecord")), "id string, word string"
            transform = RunTFScript(
                script("sides.py"), "id string, word string", input_schema=FILES_SCHEMA, entry="join",
                side_inputs={"words": side}, output_as="record_batch",
            )  # fmt: skip
            return pipeline | ReadExamples(path) | transform

    found = [row for batch in in_memory.run(Joined()) for row in batch.to_pylist()]
    assert sorted(found, key=str) == sorted(words, key=str)

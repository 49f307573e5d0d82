"""Files of batches on every engine: read in parts, through a script in each feed, and written."""

from __future__ import annotations

import glob
import gzip

import apache_beam as beam

from beam_tfscript import ExampleChunk, ReadExamples, WriteExamples
from beam_tfscript.data import tfrecord
from tests.test_batch_files import Written, files
from tests.test_conformance import ECHO
from tests.test_files_to_files import FEEDS, FileToFile, examples, read_files, rows_of
from tests.without_tensorflow import blocked, ids, run_of


@FEEDS
def test_tfrecord_files_go_through_to_tfrecord_files(runner, tmp_path, feed):
    (tmp_path / "a.tfrecord").write_bytes(tfrecord.frame(examples(ids(700))))
    (tmp_path / "b.tfrecord").write_bytes(tfrecord.frame(examples(ids(300, start=700))))
    transform = run_of(ECHO[feed], feed, env=blocked(tmp_path), output_as="examples")
    names = runner.run(FileToFile(tmp_path / "?.tfrecord", transform, tmp_path / "out"))
    assert sorted(names) == sorted(glob.glob(str(tmp_path / "out*.tfrecord")))
    assert sorted(int(row["id"]) for row in rows_of(read_files(tmp_path / "out*"))) == list(range(1000))
    assert runner.metrics["rows_in"] == runner.metrics["rows_out"] == 1000


def test_chunks_are_coded_between_stages(runner, tmp_path):
    (tmp_path / "in.tfrecord").write_bytes(tfrecord.frame(examples(ids(500))))
    transform = run_of("echo", "bundles", env=blocked(tmp_path), output_as="examples")

    class Shuffled(beam.PTransform):
        def expand(self, pipeline):
            chunks = pipeline | ReadExamples(str(tmp_path / "in.tfrecord")) | "Before" >> beam.Reshuffle()
            return chunks | transform | "Behind" >> beam.Reshuffle() | WriteExamples(str(tmp_path / "out"))

    runner.run(Shuffled())
    assert sorted(int(row["id"]) for row in rows_of(read_files(tmp_path / "out*"))) == list(range(500))


def test_examples_are_written_in_shards_and_compressed(runner, tmp_path):
    chunks = [ExampleChunk([b"%d" % i, b"%d more" % i]) for i in range(20)]
    write = WriteExamples(str(tmp_path / "out"), num_shards=3, file_name_suffix=".tfrecord.gz")
    runner.run(Written([*chunks, b"alone"], write))
    assert [path.name for path in files(tmp_path)] == [f"out-0000{i}-of-00003.tfrecord.gz" for i in range(3)]
    records = [
        record for path in files(tmp_path) for record in tfrecord.iter_records(gzip.decompress(path.read_bytes()))
    ]
    assert sorted(records) == sorted([b"alone", *(record for chunk in chunks for record in chunk)])
    # Nothing is left of the temporary names.
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("beam-temp")]


def test_large_file_is_read_in_parts(runner, tmp_path):
    records = [b"%d" % i + bytes(1000) for i in range(5000)]
    (tmp_path / "in.tfrecord").write_bytes(tfrecord.frame(records))

    class Records(beam.PTransform):
        def expand(self, pipeline):
            return pipeline | ReadExamples(str(tmp_path / "in.tfrecord")) | beam.FlatMap(lambda chunk: chunk.records)

    assert sorted(runner.run(Records())) == sorted(records)

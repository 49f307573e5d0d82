"""ReadExamples: each record once whatever the split, compression, damage, and files that are empty or missing."""

from __future__ import annotations

import gzip
import io
import random
import threading
import zlib

import apache_beam as beam
import pytest
from apache_beam.io import source_test_utils
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.range_trackers import OffsetRangeTracker
from hypothesis import given
from hypothesis import strategies as st

from beam_tfscript import ReadExamples
from beam_tfscript.data import tfrecord
from beam_tfscript.errors import ArgumentError, RowError
from beam_tfscript.io import example_source
from beam_tfscript.io.example_source import ExampleSource


@pytest.fixture
def small_chunks(monkeypatch):
    """Let a chunk have a few records, and a block a few chunks."""
    monkeypatch.setattr("beam_tfscript.runtime.transport.wire.FRAME_TARGET_RECORDS", 3)
    monkeypatch.setattr("beam_tfscript.data.tfrecord_blocks.READ_BYTES", 256)


def make_records(count, seed=1):
    chance = random.Random(seed)
    inner = tfrecord.frame([b"inner"] * 5)
    return [b"%d " % i + chance.choice([b"", b"x" * chance.randrange(60), bytes(30), inner]) for i in range(count)]


def write(path, records):
    path.write_bytes(tfrecord.frame(records))
    return str(path)


def source_of(path, compression=CompressionTypes.AUTO):
    return ExampleSource(str(path), compression, 0)


def records_of(chunks):
    return [record for chunk in chunks for record in chunk]


def ranges_of(source, size):
    """Return the records of each range of about `size` bytes."""
    bundles = source.split(size)
    return [
        records_of(bundle.source.read(bundle.source.get_range_tracker(bundle.start_position, bundle.stop_position)))
        for bundle in bundles
    ]


@pytest.mark.usefixtures("small_chunks")
def test_each_record_comes_once_whatever_the_split(tmp_path):
    records = make_records(60)
    path = write(tmp_path / "rows.tfrecord", records)
    for size in (1, 7, 16, 50, 333, 10_000):
        assert records_of(ranges_of(source_of(path), size)) == records


def test_file_that_must_not_be_split_is_one_range(tmp_path):
    path = write(tmp_path / "rows.tfrecord", make_records(60))
    assert len(ranges_of(ExampleSource(path, CompressionTypes.AUTO, 0, splittable=False), 50)) == 1
    assert len(ranges_of(ExampleSource(path, CompressionTypes.AUTO, 0), 50)) > 10


@pytest.mark.usefixtures("small_chunks")
def test_each_record_comes_once_if_a_range_is_shortened_while_it_is_read(tmp_path):
    records = make_records(40)
    source = source_of(write(tmp_path / "rows.tfrecord", records))
    (bundle,) = source.split(float("inf"))
    whole = bundle.source
    for num_chunks in range(1, 14):
        for fraction in (0.05, 0.3, 0.5, 0.8, 0.97):
            tracker = whole.get_range_tracker(None, None)
            chunks = whole.read(tracker)
            found = records_of(next(chunks) for _ in range(num_chunks))
            split = tracker.try_split(tracker.position_at_fraction(fraction))
            found += records_of(chunks)
            if split is not None:
                rest = whole.get_range_tracker(split[0], bundle.stop_position)
                found += records_of(whole.read(rest))
            assert found == records, (num_chunks, fraction)


class ShrinkingTracker(OffsetRangeTracker):
    """Tracker whose range is shortened between the two halves of a claim."""

    def __init__(self, start, stop, split_at):
        super().__init__(start, stop)
        self._split_at = split_at
        self.split = None

    def set_current_position(self, record_start):
        if self.split is None:
            self.split = self.try_split(self._split_at)
        super().set_current_position(record_start)


@pytest.mark.usefixtures("small_chunks")
def test_each_record_comes_once_if_a_range_is_shortened_during_a_claim(tmp_path):
    records = make_records(30)
    (bundle,) = source_of(write(tmp_path / "rows.tfrecord", records)).split(float("inf"))
    for split_at in range(1, bundle.stop_position, 11):
        tracker = ShrinkingTracker(0, bundle.stop_position, split_at)
        found = records_of(bundle.source.read(tracker))
        if tracker.split is not None:
            found += records_of(bundle.source.read(OffsetRangeTracker(split_at, bundle.stop_position)))
        assert found == records, split_at


@pytest.mark.usefixtures("small_chunks")
def test_beams_own_checks_of_sources_pass(tmp_path):
    (bundle,) = source_of(write(tmp_path / "rows.tfrecord", make_records(40))).split(float("inf"))
    reference = (bundle.source, None, None)
    source_test_utils.assert_reentrant_reads_succeed(reference)
    parts = [(part.source, part.start_position, part.stop_position) for part in bundle.source.split(100)]
    assert len(parts) > 5
    whole = records_of(source_test_utils.read_from_source(*reference))
    assert records_of(records_of(source_test_utils.read_from_source(*part)) for part in parts) == whole


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=30), st.integers(1, 400))
def test_ranges_of_any_size_have_each_record_once(records, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam_tfscript.data.tfrecord_blocks.READ_BYTES", 100)
        # Without a file per case: hypothesis does not make new temporary directories.
        patch.setattr(example_source, "opened", lambda *_: _Opened(tfrecord.frame(records)))
        source, total = ExampleSource("any", CompressionTypes.UNCOMPRESSED, 0), len(tfrecord.frame(records))
        found = []
        for start in range(0, total, size):
            found += records_of(source.read_records("any", OffsetRangeTracker(start, min(start + size, total))))
    assert found == records


class _Opened:
    def __init__(self, data):
        self._data = data

    def __enter__(self):
        return io.BytesIO(self._data)

    def __exit__(self, *_):
        pass


def read(runner, pattern, **arguments):
    """Return the records that a pipeline reads."""

    class Reading(beam.PTransform):
        def expand(self, pipeline):
            return pipeline | ReadExamples(pattern, **arguments)

    return records_of(runner.run(Reading()))


@pytest.mark.parametrize(
    ("suffix", "compress", "compression"),
    [
        ("", bytes, CompressionTypes.AUTO),
        (".gz", gzip.compress, CompressionTypes.AUTO),
        (".deflate", zlib.compress, CompressionTypes.AUTO),
        ("", gzip.compress, CompressionTypes.GZIP),
        ("", zlib.compress, CompressionTypes.DEFLATE),
    ],
)
def test_files_of_all_compressions_are_read(runner, tmp_path, suffix, compress, compression):
    records = make_records(5000)
    for index in range(3):
        data = tfrecord.frame(records[index::3])
        (tmp_path / f"part-{index}.tfrecord{suffix}").write_bytes(compress(data))
    found = read(runner, str(tmp_path / "part-*"), compression_type=compression)
    assert sorted(found) == sorted(records)


def test_files_that_tensorflow_compresses_are_read(in_memory, tmp_path):
    import tensorflow as tf

    records = make_records(50)
    for name in ("GZIP", "ZLIB"):
        with tf.io.TFRecordWriter(str(tmp_path / name), name) as writer:
            for record in records:
                writer.write(record)
    for name, compression in [("GZIP", CompressionTypes.GZIP), ("ZLIB", CompressionTypes.DEFLATE)]:
        assert read(in_memory, str(tmp_path / name), compression_type=compression) == records


def test_empty_files_have_no_records(runner, tmp_path):
    write(tmp_path / "a.tfrecord", [])
    assert read(runner, str(tmp_path / "*.tfrecord")) == []
    (tmp_path / "b.tfrecord.gz").write_bytes(gzip.compress(b""))
    write(tmp_path / "c.tfrecord", [b"one"])
    assert read(runner, str(tmp_path / "*.tfrecord*")) == [b"one"]


def test_pattern_without_files_is_refused_while_the_pipeline_is_built(tmp_path):
    with pytest.raises(ArgumentError, match=r"There is no file .*none-\*: give a path, a URI or a pattern"):
        ReadExamples(str(tmp_path / "none-*"))
    ReadExamples(str(tmp_path / "none-*"), validate=False)


@pytest.mark.parametrize("record", [0, 1, 7, 19])
@pytest.mark.parametrize(("byte", "problem"), [(3, "has a length"), (15, "has a record")])
@pytest.mark.usefixtures("small_chunks")
def test_damage_is_told_wherever_a_range_begins(tmp_path, record, byte, problem):
    records = [b"%02d some bytes" % i for i in range(20)]
    size = len(records[0]) + tfrecord.FRAME_OVERHEAD_BYTES
    data = bytearray(tfrecord.frame(records))
    data[record * size + byte] ^= 1
    path = tmp_path / "rows.tfrecord"
    path.write_bytes(data)
    for length in (1, size - 1, size, size + 1, 3 * size, len(data)):
        # A range that begins in the damaged frame does not see it; the range before does.
        with pytest.raises(RowError) as raised:
            ranges_of(source_of(path), length)
        assert str(raised.value).startswith(f"{path} is damaged, or is not a TFRecord file: the frame at byte ")
        assert f"byte {record * size} {problem}" in str(raised.value)


@pytest.mark.parametrize("kept", [-1, -20, -30])
def test_file_that_is_cut_short_is_told_with_its_name(in_memory, tmp_path, kept):
    path = tmp_path / "rows.tfrecord"
    path.write_bytes(tfrecord.frame([b"some bytes"] * 10)[:kept])
    with pytest.raises(Exception, match=r"rows\.tfrecord is damaged.*the frame at byte \d+ is cut short"):
        read(in_memory, str(path))


def test_damage_of_a_compressed_file_is_told(in_memory, tmp_path):
    data = bytearray(tfrecord.frame([b"some bytes"] * 10))
    data[30] ^= 1
    path = tmp_path / "rows.tfrecord.gz"
    path.write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(Exception, match=r"rows\.tfrecord\.gz is damaged.*byte 26 after decompression has a length"):
        read(in_memory, str(path))
    path.write_bytes(gzip.compress(tfrecord.frame([b"some bytes"] * 1000))[:-20])
    with pytest.raises(Exception, match=r"rows\.tfrecord\.gz"):
        read(in_memory, str(path))


@pytest.mark.parametrize(("suffix", "wbits"), [(".gz", 31), (".deflate", 15)])
def test_compressed_file_that_is_cut_between_two_records_is_told(in_memory, tmp_path, suffix, wbits):
    compressor = zlib.compressobj(wbits=wbits)
    data = compressor.compress(tfrecord.frame([b"some bytes"] * 10)) + compressor.flush(zlib.Z_FULL_FLUSH)
    path = tmp_path / f"rows.tfrecord{suffix}"
    path.write_bytes(data)
    with pytest.raises(Exception, match=rf"rows\.tfrecord\{suffix} cannot be read: its compressed data is cut short"):
        read(in_memory, str(path))


def test_other_files_are_refused(in_memory, tmp_path):
    path = tmp_path / "rows.tfrecord"
    path.write_text("id,x\n" * 100)
    with pytest.raises(Exception, match=r"rows\.tfrecord is damaged, or is not a TFRecord file: the frame at byte 0"):
        read(in_memory, str(path))


def test_splits_from_another_thread_lose_nothing(tmp_path):
    records = [b"%d" % i + bytes(100) for i in range(20_000)]
    (bundle,) = source_of(write(tmp_path / "rows.tfrecord", records)).split(float("inf"))
    tracker = bundle.source.get_range_tracker(None, None)
    splits, done = [], threading.Event()

    def split():
        while not done.is_set():
            stop = tracker.stop_position()
            if (result := tracker.try_split(stop - 10_000)) is not None:
                splits.append((result[0], stop))

    thread = threading.Thread(target=split)
    thread.start()
    found = records_of(bundle.source.read(tracker))
    done.set()
    thread.join()
    for start, stop in splits:
        found += records_of(bundle.source.read(OffsetRangeTracker(start, stop)))
    assert sorted(found) == sorted(records)

"""TFRecord framing, against TensorFlow's own reader and writer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_tfscript.data.tfrecord import FRAME_OVERHEAD_BYTES, frame, iter_records, read


@given(st.lists(st.binary(max_size=300)))
def test_reads_back_what_it_has_framed(records):
    framed = frame(records)
    assert len(framed) == sum(map(len, records)) + FRAME_OVERHEAD_BYTES * len(records)
    assert list(iter_records(framed)) == records
    assert frame(tuple(records)) == framed


def test_tensorflow_reads_it(tmp_path):
    import tensorflow as tf

    records = [b"", b"a", b"\0" * 1000, b"a" * (1 << 20), *(str(n).encode() for n in range(1000))]
    path = tmp_path / "data.tfrecord"
    path.write_bytes(frame(records[:500]) + frame(records[500:]))
    found = tf.data.TFRecordDataset(str(path)).batch(len(records)).as_numpy_iterator().next().tolist()
    assert found == records == read(str(path))


def test_reads_what_tensorflow_has_written(tmp_path):
    import tensorflow as tf

    path = str(tmp_path / "data.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for record in (b"a", b"", b"b" * 5000):
            writer.write(record)
    assert read(path) == [b"a", b"", b"b" * 5000]


def test_no_records_are_no_bytes():
    assert frame([]) == b"" and list(iter_records(b"")) == []


@pytest.mark.parametrize("at", [0, 9, 13, 30])
def test_rejects_a_changed_byte(at):
    framed = bytearray(frame([b"some bytes", b"and more bytes"]))
    framed[at] ^= 1
    with pytest.raises(ValueError, match="does not match its checksum"):
        list(iter_records(bytes(framed)))


@pytest.mark.parametrize("kept", [3, 15, 20, 40])
def test_rejects_a_frame_that_is_cut_short(kept):
    with pytest.raises(ValueError, match="is cut short"):
        list(iter_records(frame([b"some bytes", b"and more bytes"])[:kept]))

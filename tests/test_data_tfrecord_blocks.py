"""Frames of TFRecord files in blocks, from any byte on, in whole files and in damaged ones."""

from __future__ import annotations

import bisect
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_tfscript.data import tfrecord, tfrecord_blocks, tfrecord_search
from beam_tfscript.data.tfrecord_blocks import FrameError, iter_blocks, iter_range

# Records that hold TFRecords themselves, and zeros, which look like the high bytes of a length.
RECORDS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.integers(0, 300).map(bytes),
        st.lists(st.binary(max_size=20), max_size=6).map(lambda inner: b"x" + tfrecord.frame(inner) + b"y"),
        st.lists(st.binary(max_size=20), max_size=6).map(tfrecord.frame),
    ),
    min_size=1,
    max_size=30,
)


def starts_of(records):
    """Return the position of each record's frame, and the end of the file."""
    starts = [0]
    for record in records:
        starts.append(starts[-1] + len(record) + tfrecord.FRAME_OVERHEAD_BYTES)
    return starts


def find_frame(file, start, stop, size):
    """Return the position of the first frame that begins in a range; None if none does."""
    return next((block.starts[0] for block in iter_range(file, start, stop, size)), None)


class Dribbling(io.BytesIO):
    """File whose reads return fewer bytes than asked for, as those of a compressed file may."""

    def read(self, size=-1):
        return super().read(max(1, size // 3))


@given(RECORDS, st.integers(30, 200), st.booleans())
def test_all_frames_come_in_blocks_of_any_size(records, size, dribbles):
    data = tfrecord.frame(records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfrecord_blocks, "READ_BYTES", size)
        blocks = list(iter_blocks((Dribbling if dribbles else io.BytesIO)(data)))
    assert [record for block in blocks for record in block.records] == records
    assert [start for block in blocks for start in block.starts] == starts_of(records)[:-1]
    for block in blocks:
        for part in block.parts(3):
            assert tfrecord.split(part.frames) == part.records
            assert part.end - part.starts[0] == len(part.frames)


@given(RECORDS, st.data(), st.sampled_from([50, 1 << 20]))
def test_first_frame_of_a_range_is_found(records, data, size):
    framed, starts = tfrecord.frame(records), starts_of(records)
    start = data.draw(st.integers(1, len(framed)))
    stop = data.draw(st.integers(start, len(framed)))
    following = starts[bisect.bisect_left(starts, start)]
    expected = following if following < stop else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfrecord_blocks, "READ_BYTES", size)
        patch.setattr(tfrecord_search, "READ_BYTES", size)
        assert find_frame(io.BytesIO(framed), start, stop, len(framed)) == expected


def test_frames_inside_a_record_are_not_taken_for_the_files_own():
    inner = tfrecord.frame([b"inner"] * 200)
    records = [b"a", b"before" + inner + b"behind", b"b", inner, b"c"]
    framed, starts = tfrecord.frame(records), starts_of(records)
    assert find_frame(io.BytesIO(framed), starts[1] + 1, len(framed), len(framed)) == starts[2]
    # In a range that lies inside the record no frame begins.
    assert find_frame(io.BytesIO(framed), starts[1] + 100, starts[1] + 900, len(framed)) is None


def test_search_goes_around_a_damaged_frame_by_way_of_the_files_start(monkeypatch):
    monkeypatch.setattr(tfrecord_blocks, "READ_BYTES", 30)
    records = [b"some bytes"] * 10
    starts = starts_of(records)
    damaged = bytearray(tfrecord.frame(records))
    damaged[starts[5]] ^= 1  # the length of the sixth record
    blocks = iter_range(io.BytesIO(bytes(damaged)), starts[2] + 1, len(damaged), len(damaged))
    # The range has whole frames before the damage, and they are not skipped.
    assert next(blocks).starts[0] == starts[3]
    with pytest.raises(FrameError, match=f"The frame at byte {starts[5]} has a length that does not match"):
        list(blocks)


@pytest.mark.parametrize(
    ("at", "problem"),
    [
        (0, "has a length that does not match its checksum"),
        (9, "has a length that does not match its checksum"),
        (13, "has a record that does not match its checksum"),
        (24, "has a record that does not match its checksum"),
    ],
)
def test_damage_is_told_with_its_position(at, problem):
    records = [b"some bytes"] * 4
    start = starts_of(records)[2]
    damaged = bytearray(tfrecord.frame(records))
    damaged[start + at] ^= 0x40
    with pytest.raises(FrameError) as raised:
        list(iter_blocks(io.BytesIO(bytes(damaged))))
    assert (raised.value.at, raised.value.problem) == (start, problem)


@pytest.mark.parametrize("kept", [1, 11, 12, 20, 25])
def test_file_that_is_cut_short_is_told(kept):
    records = [b"some bytes"] * 3
    start = starts_of(records)[2]
    blocks = iter_blocks(io.BytesIO(tfrecord.frame(records)[: start + kept]))
    with pytest.raises(FrameError, match=f"The frame at byte {start} is cut short"):
        list(blocks)


def test_empty_file_has_no_blocks():
    assert list(iter_blocks(io.BytesIO(b""))) == []

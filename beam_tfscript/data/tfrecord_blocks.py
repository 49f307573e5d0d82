"""Frames of a TFRecord file in blocks: from the file's start, or from the first frame behind any byte.

In comes an open file. Out come blocks of whole frames whose checksums fit, or a `FrameError` with the frame's position.

A TFRecord file has no marks between its records. But each frame begins with a length and the checksum of that length,
which other bytes have by chance once in four billion times. `iter_range` searches for such bytes. Records may hold
TFRecord frames themselves, so it also checks that more frames follow. If they do not, it goes from frame to frame from
the file's start.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import google_crc32c
import numpy as np

from beam_tfscript.data.tfrecord import FRAME_OVERHEAD_BYTES, header_of, mask_crcs
from beam_tfscript.data.tfrecord_search import HEADER_BYTES, READ_BYTES, positions_like_headers, read_up_to

__all__ = ["Block", "FrameError", "iter_blocks", "iter_range"]

# Frames are followed this far from the one that is found. More would take more time per part of a file. With less, a
# record that holds other TFRecords could be mistaken for the file's own frames.
_FOLLOWED_BYTES = 4 << 20
_FOOTER_BYTES = 4
_LENGTH = struct.Struct("<Q")
# Number of headers that are kept, since most frames have a length that another one had.
_MAX_KNOWN = 1 << 16


class FrameError(ValueError):
    """A damaged frame.

    Attributes:
      at: position of the frame in the file.
      problem: description of the damage.
    """

    def __init__(self, at: int, problem: str):
        super().__init__(f"The frame at byte {at} {problem}.")
        self.at = at
        self.problem = problem


class Block(NamedTuple):
    """Whole frames that follow one another.

    Attributes:
      starts: position of each frame in the file.
      end: position behind the last frame.
      records: the records in the frames.
      frames: bytes that begin with the first frame.
    """

    starts: list[int]
    end: int
    records: list[bytes]
    frames: bytes

    def parts(self, count: int) -> Iterator[Block]:
        """Yield blocks of up to `count` of the frames."""
        for first in range(0, len(self.starts), count):
            starts = self.starts[first : first + count]
            following = self.starts[first + count] if first + count < len(self.starts) else self.end
            records = self.records[first : first + count]
            frames = self.frames[starts[0] - self.starts[0] : following - self.starts[0]]
            yield Block(starts, following, records, frames)

    def first(self, count: int) -> Block:
        """Return the first `count` frames, at least one."""
        return next(self.parts(count))


def iter_blocks(file: IO[bytes], at: int = 0, stop: float = math.inf) -> Iterator[Block]:
    """Yield the frames of a range, in blocks of about 1 MiB, or of one frame that is larger.

    The header of the frame behind the range is checked too.

    Args:
      file: the open file; its position is `at`.
      at: position of the range's first frame.
      stop: the range's end; frames that begin there or later are left out.

    Raises:
      FrameError: a checksum does not fit, or the last frame is cut short.
    """
    headers = _Headers()
    rest, wanted = b"", READ_BYTES
    while True:
        more = read_up_to(file, wanted)
        is_end = len(more) < wanted
        data = rest + more
        block, missing = _take_frames(data, at, stop, headers, is_end=is_end)
        if block.starts:
            yield block
        if is_end or missing is None:
            return
        rest, at = data[block.end - at :], block.end
        wanted = max(READ_BYTES, missing)


def iter_range(file: IO[bytes], start: int, stop: int, size: int) -> Iterator[Block]:
    """Yield the frames that begin in a range, as `iter_blocks` does.

    Args:
      file: the open file, which can be sought.
      start: the range's first byte, greater than 0; it may be in the middle of a frame.
      stop: the range's end.
      size: size of the file.

    Raises:
      FrameError: a frame is damaged, in the range or before.
    """
    found = next(positions_like_headers(file, start, stop), None)
    if found is None:
        return
    file.seek(found)
    blocks = iter_blocks(file, found, stop)
    try:
        first = _take_first(file, blocks, found + _FOLLOWED_BYTES, size)
    except FrameError:
        # Either these bytes are part of a record, or a frame behind them is damaged.
        found = _follow(file, 0, start, size)
        if found is None or found >= stop:
            return
        file.seek(found)
        first, blocks = [], iter_blocks(file, found, stop)
    yield from first
    yield from blocks


def _take_first(file: IO[bytes], blocks: Iterator[Block], until: int, size: int) -> list[Block]:
    """Return the blocks before a position; behind a shorter range, only check that frames follow up to there.

    Raises:
      FrameError: no frame follows, or a frame is damaged.
    """
    first: list[Block] = []
    for block in blocks:
        first.append(block)
        if block.end >= until:
            return first
    _follow(file, first[-1].end, until, size)
    return first


class _Headers:
    """Headers that were seen before, which are not computed again.

    Attributes:
      sizes: size of the frame by its header.
    """

    def __init__(self) -> None:
        self.sizes: dict[bytes, int] = {}

    def size_of_frame(self, header: bytes, at: int) -> int:
        """Return the size of the frame with a header of 12 bytes, at a position of the file.

        Raises:
          FrameError: the header's checksum does not fit.
        """
        size = self.sizes.get(header)
        if size is None:
            (length,) = _LENGTH.unpack_from(header)
            if header != header_of(length):
                raise FrameError(at, "has a length that does not match its checksum")
            size = length + FRAME_OVERHEAD_BYTES
            if len(self.sizes) >= _MAX_KNOWN:
                self.sizes.clear()
            self.sizes[header] = size
        return size


def _take_frames(data: bytes, at: int, stop: float, headers: _Headers, *, is_end: bool) -> tuple[Block, int | None]:
    """Return the whole frames that bytes begin with, and the number of bytes that the next frame lacks.

    Args:
      data: bytes of the file from position `at` on.
      at: position of a frame.
      stop: position of the first frame to leave out.
      headers: headers that are known.
      is_end: True if the file ends with these bytes.

    Returns:
      (the frames, the number of bytes; None if the next frame is left out).

    Raises:
      FrameError: a checksum does not fit, or the last frame is cut short.
    """
    size, limit = len(data), stop - at
    sizes = headers.sizes  # looked up once: this loop runs per record
    position = 0
    bounds = [position]
    missing: int | None = 0
    while size - position >= HEADER_BYTES:
        header = data[position : position + HEADER_BYTES]
        try:
            end = position + sizes[header]
        except KeyError:
            end = position + headers.size_of_frame(header, at + position)
        if position >= limit:
            missing = None
            break
        if end > size:
            missing = end - size
            break
        position = end
        bounds.append(position)
    if is_end and position < size and missing is not None:
        raise FrameError(at + position, "is cut short")
    records = [data[start + HEADER_BYTES : end - _FOOTER_BYTES] for start, end in zip(bounds, bounds[1:])]
    positions = np.array(bounds)
    _check_records(data, at, positions, records)
    return Block((at + positions[:-1]).tolist(), at + position, records, data), missing


def _check_records(data: bytes, at: int, positions: np.ndarray, records: list[bytes]) -> None:
    """Check the records' checksums.

    Args:
      data: bytes of the file from position `at` on.
      at: a position in the file.
      positions: offset of each frame in the bytes, and the end of the last one.
      records: the records in the frames.

    Raises:
      FrameError: a checksum does not fit.
    """
    if not records:
        return
    crcs = np.fromiter(map(google_crc32c.value, records), np.uint32, len(records))
    footers = positions[1:, None] + np.arange(-_FOOTER_BYTES, 0)
    found = np.frombuffer(data, np.uint8)[footers].view("<u4")[:, 0]
    wrong = np.flatnonzero(mask_crcs(crcs) != found)
    if len(wrong):
        raise FrameError(at + int(positions[wrong[0]]), "has a record that does not match its checksum")


def _follow(file: IO[bytes], at: int, until: int, size: int) -> int | None:
    """Go from frame to frame; return the position of the first one at or behind `until`, or None at the file's end.

    Only headers are read and checked.

    Args:
      file: the open file.
      at: position of a frame.
      until: position to go to.
      size: size of the file.

    Raises:
      FrameError: a header's checksum does not fit, or a frame ends behind the file.
    """
    headers = _Headers()
    data, base = b"", 0
    while at < size:
        offset = at - base
        if offset < 0 or offset + HEADER_BYTES > len(data):
            file.seek(at)
            data, base, offset = read_up_to(file, READ_BYTES), at, 0
        header = data[offset : offset + HEADER_BYTES]
        if len(header) < HEADER_BYTES:
            raise FrameError(at, "is cut short")
        end = at + headers.size_of_frame(header, at)
        if end > size:
            raise FrameError(at, "is cut short")
        if at >= until:
            return at
        at = end
    return None

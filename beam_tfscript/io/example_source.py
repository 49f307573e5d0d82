"""Beam's source of TFRecord files: a file's byte ranges in, chunks of the records that begin in them out."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from typing import IO, Any

from apache_beam.io.filebasedsource import FileBasedSource
from apache_beam.io.filesystem import CompressionTypes

from beam_tfscript.data.example_chunk import ExampleChunk
from beam_tfscript.data.tfrecord_blocks import FrameError, iter_blocks, iter_range
from beam_tfscript.errors import RowError
from beam_tfscript.io.chunk_coder import ExampleChunkCoder
from beam_tfscript.io.found_files import check_complete, opened
from beam_tfscript.runtime.transport import wire


class ExampleSource(FileBasedSource):
    """Source of the records of TFRecord files, as chunks.

    A record belongs to the range that it begins in. Before a range ends, the header of the frame behind it is checked.
    So damage at the first frame of a range is found, although that range begins at the next frame that is whole.

    Args:
      file_pattern: a path, URI or pattern.
      compression_type: one of Beam's `CompressionTypes`.
      min_bundle_size: smallest number of bytes of a range.
      splittable: False if a file is always one range.
    """

    def __init__(self, file_pattern: str, compression_type: str, min_bundle_size: int, splittable: bool = True):
        super().__init__(file_pattern, min_bundle_size, compression_type, splittable, validate=False)

    def default_output_coder(self) -> ExampleChunkCoder:
        """Return the coder of chunks."""
        return ExampleChunkCoder()

    def read_records(self, file_name: str, offset_range_tracker: Any) -> Iterator[ExampleChunk]:
        """Yield the records that begin in a range, as chunks.

        Raises:
          RowError: the file cannot be read, or is damaged.
        """
        with opened(file_name, self._compression_type) as file:
            try:
                yield from _read_range(file, offset_range_tracker)
            except FrameError as error:
                position = f"byte {error.at}" + (" after decompression" if self._is_compressed(file_name) else "")
                raise RowError(
                    f"{file_name} is damaged, or is not a TFRecord file: the frame at {position} {error.problem}."
                ) from error

    def _is_compressed(self, file_name: str) -> bool:
        found = self._compression_type
        if found == CompressionTypes.AUTO:
            found = CompressionTypes.detect_compression_type(file_name)
        return found != CompressionTypes.UNCOMPRESSED


def _read_range(file: IO[bytes], tracker: Any) -> Iterator[ExampleChunk]:
    start = tracker.start_position()
    if start:
        size = file.seek(0, os.SEEK_END)
        blocks = iter_range(file, start, min(tracker.stop_position(), size), size)
    else:
        blocks = iter_blocks(file, stop=tracker.stop_position())
    for block in blocks:
        for part in block.parts(wire.FRAME_TARGET_RECORDS):
            count = _claim(tracker, part.starts)
            if count:
                own = part.first(count)
                yield ExampleChunk.from_framed(count, own.frames, own.records)
            if count < len(part.starts):
                return
    check_complete(file)


def _claim(tracker: Any, starts: list[int]) -> int:
    """Claim frames; return the number of those, from the first one on, that are in the range.

    A runner may shorten the range at any time. It cannot shorten it to a position before the current one. So the
    current position is set to the last frame, and then the range's end is read once more.
    """
    if not tracker.try_claim(starts[0]):
        return 0
    count = bisect.bisect_left(starts, tracker.stop_position())
    tracker.set_current_position(starts[count - 1])
    return bisect.bisect_left(starts, tracker.stop_position())

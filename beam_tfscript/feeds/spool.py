"""Files of rows and frames: the rows of a run, complete before `main`, and frames that may be needed again."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import IO

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.runtime.transport import wire

_ENTRY = struct.Struct("<BIQ")


def write_dataset(path: str, chunks: Iterable[tuple[int, bytes]]) -> tuple[int, int]:
    """Append the chunks of a shard to one TFRecord file, as they are iterated.

    Args:
      path: the file, which is made if it does not exist.
      chunks: (count, TFRecord bytes) each; iterated once.

    Returns:
      (rows, bytes) written.

    Raises:
      ScriptEnvironmentError: the disk is full or cannot be written.
    """
    rows = size = 0
    try:
        # Unbuffered: chunks are large, and a buffer would only copy them once more.
        with open(path, "ab", buffering=0) as file:
            for count, payload in chunks:
                _write_fully(file, payload)
                rows += count
                size += len(payload)
    except OSError as error:
        raise ScriptEnvironmentError(
            f"the rows of the run cannot be spooled to {path}, after {size} bytes: {error}. A run's rows are "
            "kept on disk until it ends: free space there, set TMPDIR to a larger disk, or use more shards."
        ) from error
    return rows, size


class ShardFiles:
    """The rows of a cluster, a TFRecord file for each shard.

    Args:
      directory: where they are made.
      num_shards: how many there are.

    Attributes:
      lengths: number of rows of each shard.
    """

    def __init__(self, directory: str, num_shards: int):
        self._paths = [os.path.join(directory, f"dataset-{shard}.tfrecord") for shard in range(num_shards)]
        self._empty = os.path.join(directory, "dataset-empty.tfrecord")
        self.lengths = [0] * num_shards

    def fill(self, chunks: Iterable[tuple[int, int, bytes]]) -> None:
        """Append each chunk, (shard, count, TFRecord bytes), to its file.

        Raises:
          ScriptEnvironmentError: the disk is full or cannot be written.
        """
        for path in (*self._paths, self._empty):
            write_dataset(path, ())
        for shard, count, payload in chunks:
            write_dataset(self._paths[shard], [(count, payload)])
            self.lengths[shard] += count

    def file(self, shard: int | None) -> tuple[str, int]:
        """Return the path of a shard's file, and its number of rows; an empty file for None."""
        return (self._empty, 0) if shard is None else (self._paths[shard], self.lengths[shard])


class OutputSpool:
    """Frames on disk: outputs of a run that may still fail, or rows that may be needed again.

    Args:
      path: the file to make.

    Raises (all methods):
      ScriptEnvironmentError: the disk is full or cannot be written.
    """

    def __init__(self, path: str):
        self._path = path

    def fill(self, frames: Iterable[wire.Frame]) -> None:
        """Write all frames of an attempt, in place of those of an earlier one."""
        self._write("wb", frames)

    def extend(self, frames: Iterable[wire.Frame]) -> None:
        """Write more frames, behind those that are there."""
        self._write("ab", frames)

    def _write(self, mode: str, frames: Iterable[wire.Frame]) -> None:
        try:
            with open(self._path, mode) as file:
                for frame in frames:
                    file.write(_ENTRY.pack(frame.kind, frame.count, len(frame.payload)))
                    file.write(frame.payload)
        except OSError as error:
            raise ScriptEnvironmentError(
                f"rows or outputs of the run cannot be spooled to {self._path}: {error}. Data that a retry may need is "
                "kept there during the run: free space there, or set TMPDIR to a larger disk."
            ) from error

    def frames(self) -> Iterator[wire.Frame]:
        """Yield the frames in order."""
        with open(self._path, "rb") as file:
            while entry := file.read(_ENTRY.size):
                kind, count, length = _ENTRY.unpack(entry)
                yield wire.Frame(kind, count, file.read(length))


def _write_fully(file: IO[bytes], payload: bytes) -> None:
    view = memoryview(payload)
    while view:
        view = view[file.write(view) :]

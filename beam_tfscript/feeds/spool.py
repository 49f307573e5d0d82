"""Files of rows and frames: the rows of runs, complete before `main`, and frames that may be needed again."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files.row_spool import SpooledFile, fetch_files, write_fully
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
                write_fully(file, payload)
                rows += count
                size += len(payload)
    except OSError as error:
        raise ScriptEnvironmentError(
            f"the rows of the run cannot be spooled to {path}, after {size} bytes: {error}. A run's rows are "
            "kept on disk until it ends: free space there, set TMPDIR to a larger disk, or use more shards."
        ) from error
    return rows, size


class ShardFiles:
    """The rows of one or more shards, as TFRecord files of each.

    Rows that came through the shuffle are in one file of a shard. Rows that were spooled before the shuffle are in
    files of their own, which are read as they are.

    Args:
      directory: where files are made.
      num_shards: number of shards.

    Attributes:
      lengths: number of rows of each shard.
    """

    def __init__(self, directory: str, num_shards: int):
        self._directory = directory
        self._shuffled = [os.path.join(directory, f"dataset-{shard}.tfrecord") for shard in range(num_shards)]
        self._spooled: list[list[SpooledFile]] = [[] for _ in range(num_shards)]
        self._parts: list[list[str]] = [[] for _ in range(num_shards)]
        self.lengths = [0] * num_shards

    def fill(self, chunks: Iterable[tuple[int, int, bytes, str]]) -> list[SpooledFile]:
        """Take chunks: (shard, count, TFRecord bytes, or a reference to a spooled file) each; return all references.

        Raises:
          ScriptEnvironmentError: the disk is full or cannot be written, or a spooled file cannot be read.
        """
        for shard, count, payload, reference in chunks:
            self.lengths[shard] += count
            if reference:
                self._spooled[shard].append(SpooledFile.decode(reference))
            else:
                write_dataset(self._shuffled[shard], [(count, payload)])
        for shard, files in enumerate(self._spooled):
            self._parts[shard] = fetch_files(files, self._directory)
            if os.path.exists(self._shuffled[shard]) or not files:
                write_dataset(self._shuffled[shard], ())
                self._parts[shard].append(self._shuffled[shard])
        return [file for files in self._spooled for file in files]

    def request(self, shard: int | None) -> dict[str, Any]:
        """Return a request's values for the rows of a shard; for None, of no rows.

        `dataset_parts` are the files. `dataset_file` is the path of the only one, or of a file with all rows, which the
        runtime makes if the script asks for it.
        """
        if shard is None:
            empty = os.path.join(self._directory, "dataset-empty.tfrecord")
            write_dataset(empty, ())
            return {"dataset_file": empty, "dataset_parts": [empty], "dataset_length": 0}
        parts = self._parts[shard]
        whole = parts[0] if len(parts) == 1 else os.path.join(self._directory, f"dataset-{shard}-whole.tfrecord")
        return {"dataset_file": whole, "dataset_parts": parts, "dataset_length": self.lengths[shard]}


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

"""Rows of a bundle that are not done yet: in memory, or in files if the script wants whole bundles."""

from __future__ import annotations

import array
import collections
import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from beam_tfscript.data import tfrecord
from beam_tfscript.data.example_chunk import ExampleChunk, frame_examples, pack_examples
from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.runtime.transport import wire


@dataclasses.dataclass
class Part:
    """Rows of one window that are sent in one frame.

    Attributes:
      window: their window.
      timestamps: of each row, in microseconds.
      payload: the rows, packed by `wire.pack_records`.
    """

    window: Any
    timestamps: array.array[int]
    payload: bytes

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.timestamps)

    def without_first(self, n: int) -> Part:
        """Return the same part without the first `n` rows."""
        return Part(self.window, self.timestamps[n:], wire.pack_records(self.records()[n:]))

    def records(self) -> list[bytes]:
        """Return the serialized rows."""
        return wire.unpack_records(self.count, self.payload)


@dataclasses.dataclass
class DatasetFile:
    """Rows of one window in a TFRecord file.

    Attributes:
      window: their window.
      path: the file.
      count: number of rows in it.
      timestamp_micros: the earliest of their timestamps, in microseconds.
    """

    window: Any
    path: str
    count: int
    timestamp_micros: int


class UnackedRows:
    """Rows from the first that is not done to the last that has come.

    Args:
      scratch: returns the directory for files.

    Attributes:
      start: position of the first row.
      count: number of rows.
      memory_bytes: size of the rows that are in memory.
    """

    def __init__(self, scratch: Callable[[], str]):
        self.start = 0
        self.count = 0
        self.memory_bytes = 0
        self._scratch = scratch
        self._parts: collections.deque[Part] = collections.deque()
        self._num_sent = 0  # parts that are sent
        self._skip = 0  # rows of the first part that are done
        self._files: dict[Any, DatasetFile] | None = None
        self._num_files = 0  # files that were ever begun
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def is_all_sent(self) -> bool:
        """True if all parts are sent."""
        return self._num_sent == len(self._parts)

    @property
    def is_spooled(self) -> bool:
        """True if the rows are in files."""
        return self._files is not None

    def add(self, examples: Sequence[bytes] | ExampleChunk, window: Any, timestamps: array.array[int]) -> None:
        """Add rows of one window."""
        self.count += len(examples)
        if self._files is not None:
            self._write(examples, window, min(timestamps))
            return
        part = Part(window, timestamps, pack_examples(examples))
        self._parts.append(part)
        self.memory_bytes += len(part.payload)

    def next_unsent(self) -> Part | None:
        """Return the next part to send, without its rows that are done; it counts as sent from here on."""
        if self.is_all_sent:
            return None
        if self._num_sent == 0 and self._skip:
            # Packed anew only where rows are sent again: in a run without failures no row is copied here.
            first = self._parts[0].without_first(self._skip)
            self.memory_bytes += len(first.payload) - len(self._parts[0].payload)
            self._parts[0], self._skip = first, 0
        self._num_sent += 1
        return self._parts[self._num_sent - 1]

    def send_again(self) -> None:
        """Count all parts as not sent."""
        self._num_sent = 0

    def acknowledge(self, position: int) -> tuple[Any, int]:
        """Forget the rows before `position`, which are of one window.

        Returns:
          (their window, the earliest of their timestamps).
        """
        n = position - self.start
        if self._files is not None:
            return self._acknowledge_file(n)
        window, earliest = self._parts[0].window, None
        while n:
            part = self._parts[0]
            done = min(n, part.count - self._skip)
            first = min(part.timestamps[self._skip : self._skip + done])
            earliest = first if earliest is None else min(earliest, first)
            self._forget(done)
            n -= done
        assert earliest is not None
        return window, earliest

    def first_row(self) -> tuple[Any, int]:
        """Return the window and the timestamp, in microseconds, of the first row."""
        if self._files is not None:
            file = self.next_file()
            return file.window, file.timestamp_micros
        return self._parts[0].window, self._parts[0].timestamps[self._skip]

    def take_batch(self, n: int) -> tuple[Any, int, list[bytes]]:
        """Forget up to `n` rows of the first window, or its file: each attempt at them failed.

        Returns:
          (their window, the earliest of their timestamps, the rows).
        """
        if self._files is not None:
            file = next(iter(self._files.values()))
            records = tfrecord.read(file.path)
            return *self._acknowledge_file(file.count), records
        records = []
        window = self._parts[0].window
        for index, part in enumerate(self._parts):
            if part.window != window or len(records) == n:
                break
            skip = self._skip if index == 0 else 0
            records += part.records()[skip : skip + n - len(records)]
        return *self.acknowledge(self.start + len(records)), records

    def spool(self) -> None:
        """Write these rows, and all that are added from here on, to a file per window."""
        if self._files is not None:
            return
        self._files = {}
        self._directory = tempfile.TemporaryDirectory(prefix="bundle-", dir=self._scratch())
        for part in self._parts:
            self._write(part.records()[self._skip :], part.window, min(part.timestamps[self._skip :]))
            self._skip = 0
        self._parts.clear()
        self.memory_bytes = self._num_sent = 0

    def next_file(self) -> DatasetFile:
        """Return the file of the first window."""
        assert self._files is not None
        return next(iter(self._files.values()))

    def clear(self) -> None:
        """Forget all rows."""
        self.start += self.count
        self.count = self.memory_bytes = self._num_sent = self._skip = 0
        self._parts.clear()
        if self._files:
            self._files.clear()

    def close(self) -> None:
        """Remove the files."""
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def _forget(self, n: int) -> None:
        """Forget the first `n` rows, all of the first part."""
        self.start += n
        self.count -= n
        self._skip += n
        part = self._parts[0]
        if self._skip == part.count:
            self._parts.popleft()
            self._num_sent -= bool(self._num_sent)
            self._skip = 0
            self.memory_bytes -= len(part.payload)

    def _acknowledge_file(self, n: int) -> tuple[Any, int]:
        assert self._files is not None
        file = next(iter(self._files.values()))
        assert file.count == n
        del self._files[file.window]
        os.unlink(file.path)
        self.start += n
        self.count -= n
        return file.window, file.timestamp_micros

    def _write(self, examples: Sequence[bytes] | ExampleChunk, window: Any, timestamp_micros: int) -> None:
        assert self._files is not None and self._directory is not None
        file = self._files.get(window)
        if file is None:
            self._num_files += 1
            path = os.path.join(self._directory.name, f"dataset-{self._num_files}.tfrecord")
            file = self._files[window] = DatasetFile(window, path, 0, timestamp_micros)
        try:
            with open(file.path, "ab") as out:
                out.write(frame_examples(examples))
        except OSError as error:
            raise ScriptEnvironmentError(
                f"the rows of a bundle cannot be spooled to {file.path}: {error}. config.datasets() gives whole "
                "bundles, which are kept on disk until they are done: free space there, or set TMPDIR to a larger disk."
            ) from error
        file.count += len(examples)
        file.timestamp_micros = min(file.timestamp_micros, timestamp_micros)

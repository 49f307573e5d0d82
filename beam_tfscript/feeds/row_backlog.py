"""Rows that wait for room on their way to a script: in memory while they are few, else in a file."""

from __future__ import annotations

import collections
import contextlib
import os
import struct
from typing import IO, NamedTuple

from beam_tfscript.errors import ScriptEnvironmentError

# More chunks than these wait only where one task of a cluster is slower than its peers. They go to disk.
_MEMORY_BYTES = 4 << 20
_ENTRY = struct.Struct("<IQ")


class PackedRows(NamedTuple):
    """Rows in the form in which they are sent.

    Attributes:
      num_rows: number of rows.
      payload: the rows, packed by `wire.pack_records`.
    """

    num_rows: int
    payload: bytes


class RowBacklog:
    """A queue of rows, first in, first out.

    Args:
      path: a file that is made when it is needed; `close` removes it.

    Attributes:
      rows: number of rows in it.
    """

    def __init__(self, path: str):
        self.rows = 0
        self._path = path
        self._queue: collections.deque[PackedRows] = collections.deque()
        self._queued_bytes = 0
        self._file: IO[bytes] | None = None
        self._read_at = self._write_at = 0

    def __bool__(self) -> bool:
        return bool(self.rows)

    def put(self, rows: PackedRows) -> None:
        """Add rows at the end.

        Raises:
          ScriptEnvironmentError: the disk is full or cannot be written.
        """
        is_spilled = self._read_at < self._write_at
        if is_spilled or self._queued_bytes + len(rows.payload) > _MEMORY_BYTES:
            self._write(rows)
        else:
            self._queue.append(rows)
            self._queued_bytes += len(rows.payload)
        self.rows += rows.num_rows

    def take(self) -> PackedRows:
        """Remove and return the first rows, as they were put."""
        if self._queue:
            rows = self._queue.popleft()
            self._queued_bytes -= len(rows.payload)
        else:
            rows = self._read()
        self.rows -= rows.num_rows
        return rows

    def close(self) -> None:
        """Forget all rows."""
        self._queue.clear()
        self.rows = self._queued_bytes = self._read_at = self._write_at = 0
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def _write(self, rows: PackedRows) -> None:
        try:
            if self._file is None:
                self._file = open(self._path, "w+b", buffering=0)  # noqa: SIM115 - closed by `close`
            data = memoryview(_ENTRY.pack(rows.num_rows, len(rows.payload)) + rows.payload)
            while data:
                written = os.pwrite(self._file.fileno(), data, self._write_at)
                self._write_at += written
                data = data[written:]
        except OSError as error:
            raise ScriptEnvironmentError(
                f"rows that wait for a slow task of a cluster cannot be kept in {self._path}: {error}. Free space "
                "there, set TMPDIR to a larger disk, or deal rows out more evenly (shard_by)."
            ) from error

    def _read(self) -> PackedRows:
        assert self._file is not None
        descriptor = self._file.fileno()
        count, length = _ENTRY.unpack(os.pread(descriptor, _ENTRY.size, self._read_at))
        payload = os.pread(descriptor, length, self._read_at + _ENTRY.size)
        self._read_at += _ENTRY.size + length
        if self._read_at == self._write_at:
            os.ftruncate(descriptor, 0)
            self._read_at = self._write_at = 0
        return PackedRows(count, payload)

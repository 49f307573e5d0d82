"""Rows of a block in a file, so that a failed upload can be tried again, and takes no longer than the network does.

Arrow batches go in, and the Arrow stream comes out. Small blocks stay in memory.
"""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import IO, Any

import pyarrow as pa

__all__ = ["BlockFile"]

_MEMORY_BYTES = 32 << 20


class BlockFile:
    """An Arrow stream that grows.

    Attributes:
      rows: number of rows in the stream.
    """

    def __init__(self) -> None:
        self._file: IO[bytes]
        self._writer: Any
        self.rows: int
        self._begin()

    @property
    def size(self) -> int:
        """Number of bytes so far."""
        return self._file.tell()

    def add(self, batch: pa.RecordBatch) -> None:
        """Append a batch; all batches have the same schema."""
        if self._writer is None:
            # The service, and pyodps, read compressed batches.
            self._writer = pa.ipc.new_stream(
                self._file, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
            )
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def stream(self) -> IO[bytes]:
        """Return the whole stream, from its start; no batch can be added any more."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._file.seek(0)
        return self._file

    def clear(self) -> None:
        """Begin again with no rows."""
        self._file.close()
        self._begin()

    def _begin(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115 - closed by __exit__
        self._writer = None
        self.rows = 0

    def __enter__(self) -> BlockFile:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

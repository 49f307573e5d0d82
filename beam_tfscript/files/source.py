"""Interface of sources, which read the bytes of one URI, and their errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, Protocol

READ_BYTES = 1 << 20


class MissingFileError(Exception):
    """The file certainly does not exist."""


class PermanentFetchError(Exception):
    """Permanent failure; do not retry."""


class TransientFetchError(Exception):
    """Temporary failure; a retry may succeed."""


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """Timeouts and retries of a download, in seconds.

    Attributes:
      connect_s: timeout of a connection.
      stall_s: timeout of the wait for the next byte.
      total_s: timeout of the whole file.
      attempts: number of attempts in a row without a new byte.
      backoff_s: wait before the second attempt; it is doubled before each further one.
    """

    connect_s: float = 10.0
    stall_s: float = 60.0
    total_s: float = 3600.0
    attempts: int = 5
    backoff_s: float = 0.5


class Opened(NamedTuple):
    """A file that is being read.

    Attributes:
      start: offset of the first byte of `chunks`; 0 if the server does not support ranges.
      size: size of the whole file in bytes, or None.
      version: text that changes with the content; None if the server sends none.
      chunks: the bytes.
    """

    start: int
    size: int | None
    version: str | None
    chunks: Iterator[bytes]


class Source(Protocol):
    """File on a server. Its methods raise MissingFileError, PermanentFetchError or TransientFetchError."""

    def stat(self) -> str | None:
        """Return the file's version without reading the file; None if the server sends no version."""

    def open(self, offset: int, version: str | None) -> Opened:
        """Open the file at `offset` if it still has that version, else at 0."""

    def close(self) -> None:
        """Close the connections."""

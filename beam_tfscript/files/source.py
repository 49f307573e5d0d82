"""Interface of sources: what reads the bytes of one URI, and the errors that reading may end with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, Protocol

READ_BYTES = 1 << 20


class MissingFileError(Exception):
    """There is no such file; that is certain."""


class PermanentFetchError(Exception):
    """It cannot be had, and trying again will not help."""


class TransientFetchError(Exception):
    """It cannot be had now; trying again may help."""


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """How long to wait for a server.

    Attributes:
      connect_s: for a connection to be made.
      stall_s: for the next byte.
      total_s: for the whole file; what is slower than that is taken for stuck.
      attempts: how many times in a row nothing at all may have come.
      backoff_s: what is waited before the second attempt, and twice as long before each further one.
    """

    connect_s: float = 10.0
    stall_s: float = 60.0
    total_s: float = 3600.0
    attempts: int = 5
    backoff_s: float = 0.5


class Opened(NamedTuple):
    """A file that is being read.

    Attributes:
      start: offset of the first byte of `chunks`; 0 where the server cannot begin in the middle.
      size: of the whole file, or None.
      version: differs when the content does; None if the server does not say.
      chunks: the bytes.
    """

    start: int
    size: int | None
    version: str | None
    chunks: Iterator[bytes]


class Source(Protocol):
    """A file of some server. Every method raises MissingFileError, PermanentFetchError or TransientFetchError."""

    def stat(self) -> str | None:
        """Its version, or None if the server does not say; without reading it."""

    def open(self, offset: int, version: str | None) -> Opened:
        """Opens it at `offset`, if it still has that version, and else at 0."""

    def close(self) -> None:
        """Gives connections back."""

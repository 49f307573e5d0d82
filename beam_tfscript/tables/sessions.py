"""Interface of sessions, by which tables are read in splits and written in blocks, and their values.

A session is created once. Its id goes to all workers, which read splits or write blocks in parallel. What is written
becomes visible all at once, when the session is committed.
"""

# Annotations are not postponed here: Beam reads those of the tuples.
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple, Protocol

import pyarrow as pa

__all__ = ["ReadPlan", "Sessions", "Split", "WriteSession"]


class ReadPlan(NamedTuple):
    """Rows and columns to read.

    Attributes:
      columns: names of the columns.
      partition_columns: names of the partition columns.
      partitions: partitions such as `pt=1/region=cn`; empty for a table without partitions.
      filter: SQL condition of the rows; "" for all rows.
      rows_per_split: number of rows per split, about.
    """

    columns: Sequence[str]
    partition_columns: Sequence[str]
    partitions: Sequence[str]
    filter: str
    rows_per_split: int


class Split(NamedTuple):
    """Part of the rows of a read session.

    Attributes:
      api: name of the interface, a key of `apis.APIS`.
      session: id of the session.
      partition: partition of the session; "" if the session has any number of them.
      part: number of the split, for splits whose number of rows is not known.
      start: first row.
      rows: number of rows; -1 if it is not known.
    """

    api: str
    session: str
    partition: str
    part: int
    start: int
    rows: int


class WriteSession(NamedTuple):
    """Write session.

    Attributes:
      api: name of the interface.
      id: id of the session.
      partition: partition that is written; "" for a table without partitions, or for partitions by the rows' values.
      max_blocks: number of blocks that the session may have.
      has_fixed_blocks: True if a block that a failed attempt wrote would be committed too. Each attempt must then write
        the same block numbers.
    """

    api: str
    id: str
    partition: str
    max_blocks: int
    has_fixed_blocks: bool


class Sessions(Protocol):
    """Sessions of one table over one interface of the service; a method raises the libraries' errors."""

    def plan_read(self, plan: ReadPlan) -> list[Split]:
        """Create a read session, and return its splits."""

    def read(self, split: Split, done: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split after the first `done` rows."""

    def open_write(self, partition: str, *, overwrite: bool) -> WriteSession:
        """Create a write session."""

    def write_block(self, session: WriteSession, block: int, attempt: int, rows: IO[bytes]) -> str:
        """Write a block from an Arrow stream; return the token by which it is committed."""

    def commit(self, session: WriteSession, tokens: Sequence[str]) -> None:
        """Commit the blocks of the tokens, unless the session is committed already."""

    def close(self) -> None:
        """Close the connections."""

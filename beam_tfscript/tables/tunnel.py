"""Sessions of MaxCompute's tunnel, by pyodps: for projects without the Storage API.

A download session has one partition, and so has an upload session. There are no filters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

import pyarrow as pa

from beam_tfscript.errors import TableError
from beam_tfscript.runtime.maxcompute import parse_partition
from beam_tfscript.tables.client import retry
from beam_tfscript.tables.column_types import arrow_type_of
from beam_tfscript.tables.sessions import ReadPlan, Split, WriteSession

NAME = "tunnel"
# Blocks of an upload session.
_MAX_BLOCKS = 20000


class TunnelSessions:
    """Sessions of one table.

    Args:
      odps: the connection.
      table: pyodps's table.
      columns: names of the columns that are read.
    """

    def __init__(self, odps: Any, table: Any, columns: Sequence[str] = ()):
        from odps.tunnel import TableTunnel

        self._name = table.full_table_name
        self._table = table
        self._columns = list(columns)
        self._tunnel = TableTunnel(odps)
        self._downloads: dict[str, Any] = {}

    def plan_read(self, plan: ReadPlan) -> list[Split]:
        """Create a download session per partition, and return its splits."""
        if plan.filter:
            raise TableError(
                f"The table {self._name} cannot be read with a filter: the project's Storage API is not there for this "
                "account, and the tunnel has no filters. Filter the rows after reading."
            )
        splits = []
        for partition in plan.partitions or [""]:
            create = self._tunnel.create_download_session
            session = retry(lambda: create(self._table, partition_spec=_spec(partition)), "Creating a download")  # noqa: B023
            step = plan.rows_per_split
            for at in range(0, session.count, step):
                splits.append(Split(NAME, session.id, partition, 0, at, min(step, session.count - at)))
        return splits

    def read(self, split: Split, done: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split after the first `done` rows, with the partition's values as columns."""
        from odps.config import option_context

        session = self._downloads.get(split.session)
        if session is None:
            session = self._tunnel.create_download_session(
                self._table, partition_spec=_spec(split.partition), download_id=split.session
            )
            self._downloads = {split.session: session}
        partition = dict(parse_partition(split.partition))
        names = [column.name for column in session.schema.simple_columns]
        columns = [name for name in names if name in self._columns] or names[:1]
        start, count = split.start + done, split.rows - done
        with contextlib.closing(session.open_arrow_reader(start, count, columns=columns)) as reader:
            while True:
                # pyodps would turn times into those of this machine's time zone.
                with option_context({"local_timezone": False}):
                    batch = reader.read_next_batch()
                if batch is None:
                    return
                yield _with_partition(batch, partition, self._table)

    def open_write(self, partition: str, *, overwrite: bool) -> WriteSession:
        """Create an upload session.

        Raises:
          TableError: the table has partitions, and none is named.
        """
        if not partition and self._table.table_schema.partitions:
            raise TableError(
                f"The table {self._name} cannot be written without partition=: the project's Storage API is not there "
                "for this account, and the tunnel writes one partition at a time."
            )
        create = self._tunnel.create_upload_session
        session = retry(
            lambda: create(self._table, partition_spec=_spec(partition), overwrite=overwrite), "Creating an upload"
        )
        return WriteSession(NAME, session.id, partition, _MAX_BLOCKS, True)

    def write_block(self, session: WriteSession, block: int, attempt: int, rows: IO[bytes]) -> str:
        """Write a block, which replaces an earlier attempt at the same block."""
        from odps.config import option_context

        upload = self._upload(session)
        rows.seek(0)
        # pyodps would take times for those of this machine's time zone.
        with (
            option_context({"local_timezone": False}),
            pa.ipc.open_stream(rows) as reader,
            upload.open_arrow_writer(block) as writer,
        ):
            for batch in reader:
                writer.write(batch)
        return str(block)

    def commit(self, session: WriteSession, tokens: Sequence[str]) -> None:
        """Commit the blocks of the tokens, unless the session is committed already."""

        def commit() -> None:
            upload = self._upload(session)
            if _is_committed(upload):  # also by an attempt whose answer got lost
                return
            try:
                upload.commit(list(map(int, tokens)))
            except Exception:
                # pyodps tries a commit again by itself, and the second one is refused after the first one's success.
                if not _is_committed(self._upload(session)):
                    raise

        retry(commit, f"Committing to {self._name}")

    def close(self) -> None:
        """Close the connections."""
        self._tunnel.tunnel_rest.session.close()

    def _upload(self, session: WriteSession) -> Any:
        return self._tunnel.create_upload_session(
            self._table, partition_spec=_spec(session.partition), upload_id=session.id
        )


def _is_committed(upload: Any) -> bool:
    return upload.status in (upload.Status.Closing, upload.Status.Closed)


def _spec(partition: str) -> str | None:
    return partition.replace("/", ",") or None


def _with_partition(batch: pa.RecordBatch, partition: dict[str, str], table: Any) -> pa.RecordBatch:
    """Return a batch with a partition's values as further columns."""
    names, arrays = list(batch.schema.names), list(batch.columns)
    for name, value in partition.items():
        wanted = arrow_type_of(table.table_schema[name].type)
        names.append(name)
        arrays.append(pa.array([value] * batch.num_rows, pa.string()).cast(wanted))
    return pa.RecordBatch.from_arrays(arrays, names=names)

"""Sessions of MaxCompute's Storage API, by pyodps: splits and blocks as Arrow streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

import pyarrow as pa

from beam_tfscript.errors import TableError
from beam_tfscript.tables.client import retry, wait
from beam_tfscript.tables.sessions import ReadPlan, Split, WriteSession

NAME = "storage"
# Rows per batch.
_BATCH_ROWS = 4096
# Size of the splits of a read with a filter, whose rows are not counted in advance.
_FILTERED_SPLIT_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
# Blocks of a session, if the service does not tell.
_MAX_BLOCKS = 20000


class StorageSessions:
    """Sessions of one table.

    Args:
      odps: the connection.
      table: pyodps's table.
    """

    def __init__(self, odps: Any, table: Any):
        from odps.apis.storage_api import StorageApiArrowClient

        self._name = table.full_table_name
        self._client = StorageApiArrowClient(odps, table)

    def plan_read(self, plan: ReadPlan) -> list[Split]:
        """Create a read session, and return its splits: rows by number, or parts by size if there is a filter."""
        from odps.apis.storage_api import SplitOptions, TableBatchScanRequest

        is_filtered = bool(plan.filter)
        mode = SplitOptions.SplitMode.SIZE if is_filtered else SplitOptions.SplitMode.ROW_OFFSET
        options = SplitOptions.get_default_options(mode)
        if is_filtered:
            options.split_number = _FILTERED_SPLIT_BYTES
        request = TableBatchScanRequest(
            required_data_columns=list(plan.columns),
            required_partition_columns=list(plan.partition_columns),
            required_partitions=list(plan.partitions),
            filter_predicate=plan.filter,
            split_options=options,
        )
        # A session that is created twice is read once.
        created = retry(lambda: self._client.create_read_session(request), "Creating a read session")
        ready = self._wait(created, self._client.get_read_session, "cannot be read")
        session = created.session_id
        if is_filtered:
            return [Split(NAME, session, "", index, 0, -1) for index in range(ready.split_count or 0)]
        step, count = plan.rows_per_split, ready.record_count or 0
        return [Split(NAME, session, "", 0, at, min(step, count - at)) for at in range(0, count, step)]

    def read(self, split: Split, done: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split after the first `done` rows, which must be 0 for a split without a row count."""
        from odps.apis.storage_api import ReadRowsRequest

        request = ReadRowsRequest(
            split.session,
            split_index=split.part,
            row_index=split.start + done,
            row_count=max(split.rows - done, 0),
            max_batch_rows=_BATCH_ROWS,
        )
        stream = self._client.read_rows_stream(request)
        # Its own `close()` leaves the connection open.
        with contextlib.closing(stream._raw_reader), pa.ipc.open_stream(stream) as reader:
            yield from reader

    def open_write(self, partition: str, *, overwrite: bool) -> WriteSession:
        """Create a write session; without a partition, the rows' values name the partitions."""
        from odps.apis.storage_api import TableBatchWriteRequest

        request = TableBatchWriteRequest(partition_spec=partition, overwrite=overwrite)
        created = retry(lambda: self._client.create_write_session(request), "Creating a write session")
        ready = self._wait(created, self._client.get_write_session, "cannot be written")
        return WriteSession(NAME, created.session_id, partition, ready.max_block_num or _MAX_BLOCKS, False)

    def write_block(self, session: WriteSession, block: int, attempt: int, rows: IO[bytes]) -> str:
        """Write a block; its number may come twice, as only the committed attempt counts."""
        from odps.apis.storage_api import WriteRowsRequest

        request = WriteRowsRequest(session.id, block_number=block, attempt_number=attempt)
        writer = self._client.write_rows_stream(request)
        rows.seek(0)
        while chunk := rows.read(_CHUNK_BYTES):
            writer.write(chunk)
        message, is_ok = writer.finish()
        if not is_ok:
            raise TableError(f"The table {self._name} cannot be written: the service took no block {block}.")
        return message

    def commit(self, session: WriteSession, tokens: Sequence[str]) -> None:
        """Commit the blocks of the tokens, unless the session is committed already."""
        from odps.apis.storage_api import SessionRequest, SessionStatus

        request = SessionRequest(session.id)

        def commit() -> None:
            # Also after an attempt whose answer got lost.
            status = self._client.get_write_session(request).session_status
            if status not in (SessionStatus.COMMITTING, SessionStatus.COMMITTED):
                self._client.commit_write_session(request, list(tokens))

        def is_committed() -> bool:
            found = retry(lambda: self._client.get_write_session(request), "Asking for a commit")
            if found.session_status in (SessionStatus.CRITICAL, SessionStatus.EXPIRED):
                raise TableError(
                    f"The table {self._name}: the commit failed, and no row is written: the session is "
                    f"{found.session_status.value}."
                )
            return found.session_status == SessionStatus.COMMITTED

        retry(commit, f"Committing to {self._name}")
        wait(is_committed, f"The table {self._name}")

    def close(self) -> None:
        """Close the connections."""
        self._client.tunnel_rest.session.close()

    def _wait(self, created: Any, ask: Any, action: str) -> Any:
        """Return the description of a session that is ready."""
        from odps.apis.storage_api import SessionRequest, SessionStatus

        found = [created]

        def is_ready() -> bool:
            status = found[0].session_status
            if status == SessionStatus.NORMAL:
                return True
            if status not in (SessionStatus.INIT, None):
                raise TableError(f"The table {self._name} {action}: the session is {status.value}.")
            found[0] = retry(lambda: ask(SessionRequest(created.session_id)), "Asking for a session")
            return found[0].session_status == SessionStatus.NORMAL

        wait(is_ready, f"The table {self._name} {action}")
        return found[0]

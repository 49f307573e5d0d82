"""Table that is written: its checks, its session, its blocks and its commit.

In come the arguments of `WriteToMaxCompute`, and serialized Arrow batches. Out go blocks, and the commit of them all.
"""

# Annotations are not postponed here: Beam reads those of the tuples.
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from beam_tfscript.data.plain_arrow import plain_schema
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError, RowError, SchemaError, TableError
from beam_tfscript.runtime.maxcompute import TableAddress, has_credentials
from beam_tfscript.tables.addresses import partition_text
from beam_tfscript.tables.apis import first_that_answers, open_sessions
from beam_tfscript.tables.block_file import BlockFile
from beam_tfscript.tables.client import connected, retry, translated
from beam_tfscript.tables.sessions import WriteSession
from beam_tfscript.tables.table import Table, create_table, definitions, describe, find
from beam_tfscript.tables.table_batches import to_table

__all__ = ["Block", "TableCommit", "Target"]

# Size of a block; a shard with more data becomes several blocks.
_BLOCK_BYTES = 256 << 20
# Attempts at a block are told apart by random numbers.
_ATTEMPT_NUMBERS = 1 << 31


class TableCommit(NamedTuple):
    """Commit of a table, the only element of the output of `WriteToMaxCompute`.

    Attributes:
      table: address of the table, with the partition if one was given.
      rows: number of rows that were written.
      blocks: number of blocks.
    """

    table: str
    rows: int
    blocks: int


class Block(NamedTuple):
    """Block that was written.

    Attributes:
      session: id of the write session.
      token: text by which the session's commit names the block.
      rows: number of rows.
    """

    session: str
    token: str
    rows: int


class Target:
    """Table that is written; can be pickled.

    Attributes:
      address: the table, with the partition if one is given.
      is_overwriting: True to replace rows.
      schema: columns of the rows; None until they are known.
    """

    def __init__(
        self,
        address: TableAddress,
        is_overwriting: bool,
        partition_by: Sequence[str],
        creates: bool,
        lifecycle: int | None,
        api: str,
        schema: Schema | None = None,
    ):
        self.address = address
        self.is_overwriting = is_overwriting
        self.schema = schema
        self._partition_by = partition_by
        self._creates = creates
        self._lifecycle = lifecycle
        self._api = api

    def for_schema(self, schema: Schema) -> "Target":
        """Return the target for rows of a schema, checked as far as the table can be looked up.

        Raises:
          ArgumentError, SchemaError: the rows do not fit the table.
        """
        target = Target(
            self.address, self.is_overwriting, self._partition_by, self._creates, self._lifecycle, self._api, schema
        )
        if self._creates:
            definitions(schema, self._partition_by)
        table = target.look_up(ArgumentError)
        if table is not None:
            target.check(table, ArgumentError)
        return target

    def look_up(self, error: Any) -> Table | None:
        """Return the table; None if there are no credentials to look it up, or if it is to be created.

        Raises:
          TFScriptError: of class `error`: there is no such table, or no such partition column.
        """
        if not has_credentials():
            return None
        with connected(self.address.project, error) as odps:
            table = find(odps, self.address, error) if self._creates else describe(odps, self.address, error)
        if table is not None:
            table.check_partition(self.address.partition, error)
        return table

    def check(self, table: Table, error: Any) -> None:
        """Check that the rows fit a table, by names and types.

        Raises:
          TFScriptError: of class `error`: they do not.
        """
        assert self.schema is not None
        given = [name for name, _ in self.address.partition]
        names = {name.lower() for name in self.schema.names}
        missing = [name for name in table.partition_names if name not in given and name not in names]
        if missing:
            raise error(
                f"The table {table.name} has the partition column {missing[0]!r}, for which there is no value: give "
                f"partition='{'/'.join(f'{name}=…' for name in table.partition_names)}', or rows with that column."
            )
        if given and len(given) < len(table.partition_names):
            raise error(
                f"partition names {', '.join(given)}, and the table {table.name} has "
                f"{', '.join(table.partition_names)}: name all of them, or none and give rows with these columns."
            )
        doubled = [name for name in given if name in names]
        if doubled:
            raise error(f"The rows have the column {doubled[0]!r}, which partition names too: leave one out.")
        table.check_names(sorted(names))
        lacking = [name for name in sorted(table.required) if name not in names]
        if lacking:
            raise error(f"The rows lack the column {lacking[0]!r}, which is NOT NULL in the table {table.name}.")
        try:
            to_table(pa.RecordBatch.from_pylist([], schema=plain_schema(self.schema)), self._written(table))
        except (SchemaError, RowError) as cause:
            raise error(f"The rows do not fit the table {table.name}: {cause}") from None

    def open(self, odps: Any) -> tuple[WriteSession, Table]:
        """Create the table and the partition if need be, and a write session."""
        if self._creates:
            assert self.schema is not None
            create_table(odps, self.address, self.schema, self._partition_by, self._lifecycle)
        table = describe(odps, self.address, TableError)
        self.check(table, TableError)
        partition = partition_text(self.address.partition)
        with translated(f"The table {table.name} cannot be written"):
            if partition:
                known = odps.get_table(self.address.table, project=self.address.project, schema=self.address.schema)
                spec = partition.replace("/", ",")
                retry(lambda: known.create_partition(spec, if_not_exists=True), f"Creating {spec}")
            session = first_that_answers(
                odps,
                self.address,
                self._api,
                (),
                lambda sessions: sessions.open_write(partition, overwrite=self.is_overwriting),
            )
        return session, table

    def _written(self, table: Table) -> dict[str, Any]:
        """Return the columns of a written batch: name -> pyodps's type; those of a given partition are left out."""
        given = dict(self.address.partition)
        return {name: odps_type for name, odps_type in table.types.items() if name not in given}

    def blocks(
        self, odps: Any, session: WriteSession, table: Table, shard: int, num_shards: int, batches: Iterable[bytes]
    ) -> Iterator[Block]:
        """Write the batches of a shard as blocks, whose numbers no other shard has."""
        assert self.schema is not None
        arrow, types = plain_schema(self.schema), self._written(table)
        sessions = open_sessions(odps, self.address, session.api)
        limit = None if session.has_fixed_blocks else _BLOCK_BYTES
        number = shard

        def write(file: BlockFile) -> Block:
            if number >= session.max_blocks:
                raise TableError(
                    f"The table {table.name} cannot be written: a session has at most {session.max_blocks} blocks."
                )

            def attempt() -> str:
                attempt_number = random.randrange(_ATTEMPT_NUMBERS)
                return sessions.write_block(session, number, attempt_number, file.stream())

            return Block(session.id, retry(attempt, f"Writing block {number} of {self.address}"), file.rows)

        try:
            with translated(f"The table {table.name} cannot be written"), BlockFile() as file:
                for data in batches:
                    file.add(to_table(pa.ipc.read_record_batch(pa.py_buffer(data), arrow), types))
                    if limit is not None and file.size >= limit:
                        yield write(file)
                        file.clear()
                        number += num_shards
                if file.rows:
                    yield write(file)
        finally:
            sessions.close()

    def commit(self, odps: Any, session: WriteSession, blocks: Sequence[Block]) -> TableCommit:
        """Commit the blocks.

        Raises:
          TableError: the service refuses, or the engine has computed the session twice, and blocks are of both.
        """
        ids = {block.session for block in blocks}
        if len(ids) > 1:
            raise TableError(f"The table {self.address} cannot be committed: its blocks are of {len(ids)} sessions.")
        session = session._replace(id=ids.pop()) if ids else session
        sessions = open_sessions(odps, self.address, session.api)
        try:
            with translated(f"The table {self.address} cannot be committed"):
                sessions.commit(session, [block.token for block in blocks])
        finally:
            sessions.close()
        return TableCommit(str(self.address), sum(block.rows for block in blocks), len(blocks))

"""A table as the service describes it: its columns and partitions, and the schemas that they stand for.

In come a connection and an address. Out goes a description that can be pickled, or an error that says what is missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from beam_tfscript.data.near_names import near_names
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import SchemaError, TableError, TFScriptError
from beam_tfscript.runtime.maxcompute import TableAddress
from beam_tfscript.tables.addresses import partition_text
from beam_tfscript.tables.client import retry, translated
from beam_tfscript.tables.column_types import as_type, column_of, type_of_column

# Without it, a project of the first type system has no TINYINT, FLOAT, BINARY, TIMESTAMP and others.
_TYPE_HINTS = {"odps.sql.type.system.odps2": "true"}

__all__ = ["Table", "create_table", "definitions", "describe", "find", "find_partitions"]


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of a table.

    Attributes:
      address: the table, without a partition.
      columns: (name, type) of each column, without those of partitions.
      partition_columns: (name, type) of each partition column; empty if the table has no partitions.
      required: names of the columns that are `NOT NULL`.
    """

    address: TableAddress
    columns: tuple[tuple[str, str], ...]
    partition_columns: tuple[tuple[str, str], ...]
    required: frozenset[str]

    @property
    def name(self) -> str:
        """Name of the table in messages."""
        return ".".join(filter(None, self.address[:3]))

    @property
    def types(self) -> dict[str, Any]:
        """Dict, name -> pyodps's type, of all columns, those of partitions last."""
        return {name: as_type(text) for name, text in (*self.columns, *self.partition_columns)}

    @property
    def partition_names(self) -> tuple[str, ...]:
        """Names of the partition columns, in order."""
        return tuple(name for name, _ in self.partition_columns)

    def schema(self, names: Sequence[str] | None, as_json: Iterable[str] = ()) -> Schema:
        """Return the schema of columns.

        Args:
          names: names of the columns, in order; None for all of them.
          as_json: names of the columns that are read as JSON text.

        Raises:
          SchemaError: there is no such column, or its type has no counterpart.
        """
        types, as_json = self.types, set(as_json)
        chosen = list(types) if names is None else list(names)
        self.check_names(chosen)
        self.check_names(as_json)
        columns = []
        for name in chosen:
            try:
                nullable = name not in self.required
                columns.append(column_of(name, types[name], nullable=nullable, as_json=name in as_json))
            except SchemaError as error:
                raise SchemaError(f"The table {self.name}: {error}") from None
        return Schema(tuple(columns))

    def check_names(self, names: Iterable[str]) -> None:
        """Raise SchemaError if the table lacks one of the columns."""
        types = self.types
        for name in names:
            if name not in types:
                raise SchemaError(f"The table {self.name} has no column {name!r}{near_names(name, types)}")

    def check_partition(self, partition: Sequence[tuple[str, str]], error: type[TFScriptError]) -> None:
        """Raise an error of a class if a partition is of columns that the table does not have."""
        for name, _ in partition:
            if name not in self.partition_names:
                has = f"its partition columns are {', '.join(self.partition_names)}" if self.partition_names else (
                    "it has no partitions"
                )  # fmt: skip
                raise error(f"The table {self.name} has no partition column {name!r}: {has}.")


def describe(odps: Any, address: TableAddress, error: type[TFScriptError]) -> Table:
    """Ask the service for a table.

    Args:
      odps: the connection.
      address: the table.
      error: class of the errors raised.

    Raises:
      TFScriptError: of class `error`: there is no such table, or the service refuses.
    """
    found = find(odps, address, error)
    if found is None:
        name = ".".join(filter(None, address[:3]))
        raise error(f"There is no table {name}, or the account of the environment may not see it.")
    return found


def find(odps: Any, address: TableAddress, error: type[TFScriptError]) -> Table | None:
    """Return a table; None if there is no such table. Arguments and errors as for `describe`."""
    from odps.errors import NoSuchObject, NoSuchProject

    address = address._replace(partition=())
    with translated(f"The table {address} cannot be looked up", error):
        found = odps.get_table(address.table, project=address.project, schema=address.schema)
        try:
            retry(found.reload, f"Looking up {address}")
        except NoSuchProject:
            raise
        except NoSuchObject:
            return None
        schema = found.table_schema
        columns = [(column.name, column.type.name) for column in schema.simple_columns]
        partitions = [(column.name, column.type.name) for column in schema.partitions or ()]
        required = {column.name for column in schema.simple_columns if column.nullable is False}
    return Table(address, tuple(columns), tuple(partitions), frozenset(required))


def find_partitions(odps: Any, table: Table, conditions: Sequence[str], error: type[TFScriptError]) -> list[str]:
    """Return the partitions of a table that fulfil one of several conditions, such as `pt=1/region=cn`.

    Args:
      odps: the connection.
      table: the table.
      conditions: texts such as `pt=20240131/region=cn`, or `pt>=20240101` for a range; empty for all partitions.
      error: class of the errors raised.

    Raises:
      TFScriptError: of class `error`: a condition fits no partition, or names no partition column.
    """
    if not table.partition_columns:
        if conditions:
            raise error(f"The table {table.name} has no partitions: leave out partitions.")
        return []
    found: dict[str, None] = {}
    with translated(f"The partitions of {table.name} cannot be listed", error):
        known = odps.get_table(table.address.table, project=table.address.project, schema=table.address.schema)
        for condition in conditions or [""]:
            condition = condition.replace("/", ",")
            try:
                listed = retry(lambda: list(known.iterate_partitions(condition)), "Listing partitions")  # noqa: B023
            except ValueError as bad:
                names = ", ".join(table.partition_names)
                raise error(f"partitions: {bad}. The partition columns of {table.name} are {names}.") from None
            if condition and not listed:
                raise error(f"The table {table.name} has no partition {condition!r}.")
            found.update((partition_text(tuple(each.partition_spec.items())), None) for each in listed)
    return list(found)


def create_table(
    odps: Any, address: TableAddress, schema: Schema, partition_columns: Sequence[str], lifecycle: int | None
) -> None:
    """Create a table if it does not exist.

    Args:
      odps: the connection.
      address: the table.
      schema: its columns; those that are in `partition_columns` become partition columns.
      partition_columns: names of the partition columns; one that the schema lacks is a string.
      lifecycle: days after which unchanged data is removed; None to keep it.

    Raises:
      SchemaError: MaxCompute has no type for a column.
      TableError: the service refuses.
    """
    columns, partitions = definitions(schema, partition_columns)
    with translated(f"The table {address} cannot be created", TableError):
        parent = odps.get_schema(address.schema, project=address.project) if address.schema else (
            odps.get_project(address.project)
        )  # fmt: skip
        retry(
            lambda: parent.tables.create(
                address.table,
                (columns, partitions) if partitions else columns,
                if_not_exists=True,
                lifecycle=lifecycle,
                hints=dict(_TYPE_HINTS),
            ),
            f"Creating {address}",
        )


def definitions(schema: Schema, partition_columns: Sequence[str]) -> tuple[str, str]:
    """Return the column definitions of a `CREATE TABLE`: of the columns, and of the partition columns.

    Raises:
      SchemaError: MaxCompute has no type for a column, or no such partition column.
    """
    columns = {column.name: column for column in schema}
    lines = []
    for column in schema:
        if column.name not in partition_columns:
            null = "" if column.nullable else " NOT NULL"
            lines.append(f"{_quoted(column.name)} {type_of_column(column)}{null}")
    if not lines:
        raise SchemaError("A table needs a column that is no partition column.")
    keys = []
    for name in partition_columns:
        kind = type_of_column(columns[name]) if name in columns else "STRING"
        if kind.partition("(")[0] not in ("TINYINT", "SMALLINT", "INT", "BIGINT", "STRING", "VARCHAR", "CHAR", "DATE"):
            raise SchemaError(f"Column {name!r} of type {kind} cannot be a partition column: use string or bigint.")
        keys.append(f"{_quoted(name)} {kind}")
    return ", ".join(lines), ", ".join(keys)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"

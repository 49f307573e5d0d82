"""Addresses of tables and partitions, from the arguments of the transforms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from beam_tfscript.errors import ArgumentError
from beam_tfscript.runtime.maxcompute import SCHEME, TableAddress, parse_address, parse_partition

__all__ = ["address_of", "address_of_uri", "conditions_of", "is_table", "partition_of", "partition_text", "table_text"]


def is_table(uri: str) -> bool:
    """Return True for the address of a table."""
    return uri.startswith(SCHEME)


def address_of_uri(uri: str) -> TableAddress:
    """Return the address of a URI, with its partition.

    Raises:
      ArgumentError: the text is not such an address.
    """
    try:
        return parse_address(uri)
    except ValueError as error:
        raise ArgumentError(f"{error}.") from None


def address_of(project: str, table: str) -> TableAddress:
    """Return the address of a table of a project.

    Raises:
      ArgumentError: a name cannot be one.
    """
    schema, _, name = str(table).rpartition(".")
    for argument, value in (("project", project), ("table", name)):
        if not isinstance(value, str) or not value or any(char in value for char in "/ .:"):
            raise ArgumentError(f"{argument} must be a name, got {value!r}; from_uri() takes addresses.")
    return TableAddress(project, schema or None, name, ())


def table_text(address: TableAddress) -> str:
    """Return a table's name as `address_of` takes it, such as `schema.table`."""
    return address.table if address.schema is None else f"{address.schema}.{address.table}"


def partition_of(given: str | Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Return the (column, value) pairs of an argument `partition`.

    Raises:
      ArgumentError: the argument is not a partition.
    """
    if isinstance(given, Mapping):
        return tuple((str(name), str(value)) for name, value in given.items())
    try:
        return parse_partition(given or "")
    except ValueError as error:
        raise ArgumentError(f"partition: {error}.") from None


def partition_text(partition: Iterable[tuple[str, str]]) -> str:
    """Return a partition as text, such as `pt=20240131/region=cn`."""
    return "/".join(f"{name}={value}" for name, value in partition)


def conditions_of(partitions: Any) -> tuple[str, ...]:
    """Return the argument `partitions` as conditions of pyodps.

    Raises:
      ArgumentError: the list is empty.
    """
    if partitions is None:
        return ()
    given = [partitions] if isinstance(partitions, (str, Mapping)) else list(partitions)
    if not given:
        raise ArgumentError("partitions is an empty list: leave it out to read all partitions.")
    return tuple(each if isinstance(each, str) else partition_text(partition_of(each)) for each in given)

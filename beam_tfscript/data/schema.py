"""Schemas: the names and types of a record's columns.

Input: a text such as `"id string not null, x array<float>"`, or an Arrow schema. Output: `Schema`, a frozen tuple of
`Column`s, and from it either form again, or the wire form that the script process reads.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from beam_tfscript.data.arrow_fields import arrow_field, column_from_arrow
from beam_tfscript.data.column import Column
from beam_tfscript.data.near_names import near_names
from beam_tfscript.data.schema_text import parse_columns
from beam_tfscript.errors import SchemaError

__all__ = ["Schema"]


@dataclass(frozen=True)
class Schema:
    """The columns of a record, in order.

    Attributes:
      columns: the columns.

    Raises:
      SchemaError: there are no columns, or two would share a feature of the Example.
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if not self.columns:
            raise SchemaError("A schema must have at least one column.")
        owners: dict[str, str] = {}
        for column in self.columns:
            for feature in column.features:
                if feature in owners:
                    raise SchemaError(_clash(feature, column.name, owners[feature]))
                owners[feature] = column.name

    @classmethod
    def parse(cls, text: str) -> Schema:
        """Return the schema of a text.

        Args:
          text: columns as `name type[ not null][ default literal]`, separated by commas.

        Raises:
          SchemaError: the text does not follow the grammar; the message points at the position.
        """
        return cls(parse_columns(text))

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> Schema:
        """Return the schema of Arrow data.

        Raises:
          SchemaError: a field's type has no counterpart here.
        """
        return cls(tuple(column_from_arrow(field) for field in schema))

    def to_arrow(self) -> pa.Schema:
        """Return the Arrow schema of this schema's batches."""
        return self._arrow

    @functools.cached_property
    def _arrow(self) -> pa.Schema:
        return pa.schema([arrow_field(column) for column in self.columns])

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def select(self, names: Iterable[str]) -> Schema:
        """Return the schema with the named columns only, in the order of `names`.

        Raises:
          SchemaError: there is no such column, or a name comes twice.
        """
        by_name = {column.name: column for column in self.columns}
        chosen = []
        for name in names:
            if name not in by_name:
                raise SchemaError(f"There is no column {name!r}{near_names(name, self.names)}")
            chosen.append(by_name[name])
        return Schema(tuple(chosen))

    def to_wire(self) -> list[dict[str, Any]]:
        """Return the form that the script process reads: a JSON list with one object per column."""
        return [column.to_wire() for column in self.columns]

    def __str__(self) -> str:
        return ", ".join(map(str, self.columns))

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)


def _clash(feature: str, name: str, other: str) -> str:
    if name == other:
        return f"Column {name!r} comes twice; each name may be used once."
    return (
        f"Columns {other!r} and {name!r} both need the feature {feature!r} of the Example: an array of arrays"
        f" keeps its inner lengths there. Rename one."
    )

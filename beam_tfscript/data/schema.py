"""Schemas: the names and types of a record's columns.

Comes in: a text such as `"id string not null, x array<float>"`, an Arrow schema, or a TensorFlow one. Goes out:
`Schema`, a frozen tuple of `Column`s, and from it any of those forms again, or the wire form that the script
process reads.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beam_tfscript.data.kinds import KINDS
from beam_tfscript.data.schema_literals import literal_text, literal_to_wire
from beam_tfscript.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Column", "Schema", "near_names"]

ROW_LENGTHS_SUFFIX = "__row_lengths"
_PLAIN_NAME = re.compile(r"[^\W\d]\w*\Z")


@dataclass(frozen=True)
class Column:
    """One column: a name and a type.

    Attributes:
      name: column name, which is the feature's name in the Example.
      kind: element type, a key of `kinds.KINDS`.
      shape: `()` for a scalar, `(None,)` for an array, `(None, None)` for an array of arrays, else the
        dimensions of a tensor.
      nullable: whether null is allowed.
      default: the Python value that stands for null when the script reads the column, or None.
      unit: of a `time` or `timestamp`: `s`, `ms`, `us` or `ns`.
      precision: of a `decimal`: how many digits in all.
      scale: of a `decimal`: how many digits after the point.
      length: of `char(n)`, `varchar(n)`, `binary(n)` and `varbinary(n)`: n.
      fixed_length: whether values have exactly `length` characters or bytes, not at most.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...] = ()
    nullable: bool = True
    default: Any = None
    unit: str | None = None
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    fixed_length: bool = False

    @property
    def is_scalar(self) -> bool:
        """True for one value a row."""
        return not self.shape

    @property
    def is_array(self) -> bool:
        """True for a list of any length a row."""
        return self.shape == (None,)

    @property
    def is_ragged(self) -> bool:
        """True for a list of lists a row."""
        return self.shape == (None, None)

    @property
    def is_tensor(self) -> bool:
        """True for a fixed shape."""
        return bool(self.shape) and None not in self.shape

    @property
    def feature(self) -> str:
        """The list of an Example's Feature that holds the values: `int64`, `float` or `bytes`."""
        return "bytes" if self.is_packed else KINDS[self.kind].feature

    @property
    def is_packed(self) -> bool:
        """True for bytes as numbers: all numbers of a row are one value of a bytes feature."""
        return self.kind == "uint8" and (self.is_array or self.is_tensor)

    @property
    def row_lengths(self) -> str | None:
        """Name of the feature that holds the inner lengths of an array of arrays, else None."""
        return self.name + ROW_LENGTHS_SUFFIX if self.is_ragged else None

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that hold this column."""
        return (self.name, self.row_lengths) if self.row_lengths else (self.name,)

    @property
    def element_type(self) -> str:
        """The type of one element, as text."""
        if self.kind == "decimal":
            return f"decimal({self.precision}, {self.scale})"
        if self.unit not in (None, "us"):
            return f"{self.kind}({self.unit})"
        if self.length is not None:
            words = {"string": ("varchar", "char"), "varbinary": ("varbinary", "binary")}[self.kind]
            return f"{words[self.fixed_length]}({self.length})"
        return self.kind

    @property
    def type(self) -> str:
        """The type as text, without `not null` and default."""
        if self.is_scalar:
            return self.element_type
        if self.is_array:
            return f"array<{self.element_type}>"
        if self.is_ragged:
            return f"array<array<{self.element_type}>>"
        return f"tensor<{self.element_type}>({', '.join(map(str, self.shape))})"

    def __str__(self) -> str:
        name = self.name if _PLAIN_NAME.match(self.name) else "`" + self.name.replace("`", "``") + "`"
        text = f"{name} {self.type}"
        if not self.nullable:
            text += " not null"
        if self.default is not None:
            text += f" default {literal_text(self.default)}"
        return text

    def to_wire(self) -> dict[str, Any]:
        """Returns the JSON object that tells the script process of this column."""
        return {
            "name": self.name,
            "type": self.type,
            "kind": self.kind,
            "feature": self.feature,
            "dtype": KINDS[self.kind].dtype,
            "shape": list(self.shape),
            "unit": self.unit,
            "row_lengths": self.row_lengths,
            "nullable": self.nullable,
            "default": literal_to_wire(self),
        }


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
        """Reads a schema text.

        Args:
          text: columns as `name type[ not null][ default literal]`, separated by commas.

        Raises:
          SchemaError: the text does not follow the grammar; the message points at the place.
        """
        from beam_tfscript.data.schema_text import parse_columns

        return cls(parse_columns(text))

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> Schema:
        """Returns the schema of Arrow data.

        Raises:
          SchemaError: a field's type has no counterpart here.
        """
        from beam_tfscript.data.schema_arrow import column_from_arrow

        return cls(tuple(column_from_arrow(field) for field in schema))

    def to_arrow(self) -> pa.Schema:
        """Returns the Arrow schema that batches of this schema have."""
        return self._arrow

    @functools.cached_property
    def _arrow(self) -> pa.Schema:
        import pyarrow as pa

        from beam_tfscript.data.schema_arrow import arrow_field

        return pa.schema([arrow_field(column) for column in self.columns])

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def select(self, names: Iterable[str]) -> Schema:
        """Returns the schema with the named columns only, in the order of `names`.

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
        """Returns the form that the script process reads: a JSON list with one object a column."""
        return [column.to_wire() for column in self.columns]

    def __str__(self) -> str:
        return ", ".join(map(str, self.columns))

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)


def near_names(name: str, known: Iterable[str]) -> str:
    """Returns the end of a message on an unknown `name`: the near ones of `known`, or all of them."""
    known = list(known)
    folded = {other.casefold(): other for other in reversed(known)}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    if near:
        return f". Did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
    return f"; there are {shown}." if shown else "."


def _clash(feature: str, name: str, other: str) -> str:
    if name == other:
        return f"Column {name!r} comes twice; each name may be used once."
    return (
        f"Columns {other!r} and {name!r} both need the feature {feature!r} of the Example: an array of arrays"
        f" keeps its inner lengths there. Rename one."
    )

"""One column of a schema: its name, its type, and the features of an Example that hold it."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from beam_tfscript.data.kinds import KINDS, units_per_second

__all__ = ["ROW_LENGTHS_SUFFIX", "Column"]

ROW_LENGTHS_SUFFIX = "__row_lengths"
_EPOCH = dt.date(1970, 1, 1)
_PLAIN_NAME = re.compile(r"[^\W\d]\w*\Z")


@dataclass(frozen=True)
class Column:
    """One column: a name and a type.

    Attributes:
      name: column name, which is the feature's name in the Example too.
      kind: element type, a key of `kinds.KINDS`.
      shape: `()` for a scalar, `(None,)` for an array, `(None, None)` for an array of arrays, else the
        dimensions of a tensor.
      nullable: whether null is allowed.
      default: the Python value that the script reads for null, or None.
      unit: of a `time` or `timestamp`: `s`, `ms`, `us` or `ns`.
      precision: of a `decimal`: number of digits in all.
      scale: of a `decimal`: number of digits after the point.
      length: of `char(n)`, `varchar(n)`, `binary(n)` and `varbinary(n)`: n.
      fixed_length: True if values have exactly `length` characters or bytes, False if at most.
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
        """True for one value per row."""
        return not self.shape

    @property
    def is_array(self) -> bool:
        """True for one list of any length per row."""
        return self.shape == (None,)

    @property
    def is_ragged(self) -> bool:
        """True for one list of lists per row."""
        return self.shape == (None, None)

    @property
    def is_tensor(self) -> bool:
        """True for a tensor: values of a fixed shape."""
        return bool(self.shape) and None not in self.shape

    @property
    def feature(self) -> str:
        """Kind of list in the Example's Feature that holds the values: `int64`, `float` or `bytes`."""
        return "bytes" if self.is_packed else KINDS[self.kind].feature

    @property
    def is_packed(self) -> bool:
        """True for arrays and tensors of `uint8`: all numbers of a row are one value of a bytes feature."""
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
            text += f" default {_literal_text(self.default)}"
        return text

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object that describes the column to the script process."""
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
            "default": _default_to_wire(self),
        }


def _literal_text(value: Any) -> str:
    """Return a default value as the grammar writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    text = value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else value.isoformat()
    return "'" + text.replace("'", "''") + "'"


def _default_to_wire(column: Column) -> Any:
    """Return a column's default as JSON, in the form that an Example holds: days, units, or text."""
    value = column.default
    if column.kind == "date" and value is not None:
        return value.toordinal() - _EPOCH.toordinal()
    if column.kind == "time" and value is not None:
        return _units(dt.datetime.combine(_EPOCH, value, dt.timezone.utc), column)
    if column.kind == "timestamp" and value is not None:
        return _units(value, column)
    if column.kind == "decimal" and value is not None:
        return f"{value:.{column.scale}f}"
    return value.decode() if isinstance(value, bytes) else value


def _units(value: dt.datetime, column: Column) -> int:
    micros = (value - dt.datetime.combine(_EPOCH, dt.time(), dt.timezone.utc)) // dt.timedelta(microseconds=1)
    return micros * units_per_second(column.unit or "us") // 1_000_000

"""Element types of a schema: their names, and the feature of an Example that holds each.

Input: a type's name, in any of its spellings. Output: its `Kind`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "SYNONYMS", "UNITS", "DAY_RANGE", "INTEGER_RANGES", "Kind", "units_per_second"]


@dataclass(frozen=True)
class Kind:
    """One element type.

    Attributes:
      name: canonical name in schema texts.
      feature: the list of an Example's Feature that holds it: `int64`, `float` or `bytes`.
      dtype: numpy dtype of the values that the script sees, or `bytes`.
      takes: the Python types that fit, for error messages.
    """

    name: str
    feature: str
    dtype: str
    takes: str


_SIGNED_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("tinyint", "int64", "int8", "int"),
        Kind("smallint", "int64", "int16", "int"),
        Kind("int", "int64", "int32", "int"),
        Kind("bigint", "int64", "int64", "int"),
        Kind("uint8", "int64", "uint8", "int"),
        Kind("uint16", "int64", "uint16", "int"),
        Kind("uint32", "int64", "uint32", "int"),
        Kind("float", "float", "float32", "float"),
        Kind("double", "float", "float32", "float"),
        Kind("float64", "int64", "float64", "float"),
        Kind("boolean", "int64", "bool", "bool"),
        Kind("string", "bytes", "bytes", "str"),
        Kind("varbinary", "bytes", "bytes", "bytes"),
        Kind("date", "int64", "int32", "datetime.date"),
        Kind("time", "int64", "int64", "datetime.time without a time zone"),
        Kind("timestamp", "int64", "int64", "a Beam Timestamp or a datetime.datetime"),
        Kind("decimal", "bytes", "bytes", "decimal.Decimal or int"),
    )
}

# The first and the last day of Python's datetime.date, 0001-01-01 and 9999-12-31, in days since 1970-01-01.
DAY_RANGE = (-719162, 2932896)
# The lowest and the highest number of each integer type.
INTEGER_RANGES: dict[str, tuple[int, int]] = {
    **{kind: (-(1 << bits - 1), (1 << bits - 1) - 1) for kind, bits in _SIGNED_BITS.items()},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (8, 16, 32)},
}

# Names of one word. The parser reads those of two: `double precision`, and `double exact`, an older name of `float64`.
SYNONYMS: dict[str, str] = {
    **{name: name for name in KINDS},
    "int8": "tinyint",
    "byte": "tinyint",
    "int16": "smallint",
    "short": "smallint",
    "int32": "int",
    "integer": "int",
    "int64": "bigint",
    "long": "bigint",
    "float32": "float",
    "real": "float",
    "bool": "boolean",
    "str": "string",
    "text": "string",
    "varchar": "string",
    "char": "string",
    "character": "string",
    "bytes": "varbinary",
    "binary": "varbinary",
    "blob": "varbinary",
    "numeric": "decimal",
    "dec": "decimal",
}

UNITS = ("s", "ms", "us", "ns")


def units_per_second(unit: str) -> int:
    """Return the number of units, `s`, `ms`, `us` or `ns`, in a second."""
    return 1000 ** UNITS.index(unit)

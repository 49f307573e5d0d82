"""The element types of a schema: what each is called, and how an Example holds it.

Comes in: a type's name, in any of its spellings. Goes out: its `Kind`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "SYNONYMS", "UNITS", "INTEGER_BITS", "Kind", "units_a_second"]


@dataclass(frozen=True)
class Kind:
    """One element type.

    Attributes:
      name: canonical name in schema texts.
      feature: the list of an Example's Feature that holds it: `int64`, `float` or `bytes`.
      dtype: numpy dtype of the values that the script sees, or `bytes`.
      takes: the Python values that fit, for error messages.
    """

    name: str
    feature: str
    dtype: str
    takes: str


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("tinyint", "int64", "int8", "int"),
        Kind("smallint", "int64", "int16", "int"),
        Kind("int", "int64", "int32", "int"),
        Kind("bigint", "int64", "int64", "int"),
        Kind("float", "float", "float32", "float"),
        Kind("double", "float", "float32", "float"),
        Kind("double exact", "int64", "float64", "float"),
        Kind("boolean", "int64", "bool", "bool"),
        Kind("string", "bytes", "bytes", "str"),
        Kind("varbinary", "bytes", "bytes", "bytes"),
        Kind("date", "int64", "int32", "datetime.date"),
        Kind("time", "int64", "int64", "datetime.time without a time zone"),
        Kind("timestamp", "int64", "int64", "a Beam Timestamp or a datetime.datetime"),
        Kind("decimal", "bytes", "bytes", "decimal.Decimal or int"),
    )
}

INTEGER_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}

# One spelling a word; `double exact` and `double precision` are put together by the parser.
SYNONYMS: dict[str, str] = {
    **{name: name for name in KINDS if " " not in name},
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
    "float64": "double",
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


def units_a_second(unit: str) -> int:
    """Returns how many of `unit` make a second."""
    return 1000 ** UNITS.index(unit)

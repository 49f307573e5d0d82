"""Random schemas and rows for property-based tests, and what a row looks like after its way through Examples."""

from __future__ import annotations

import datetime as dt
import math
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.utils.timestamp import Timestamp
from hypothesis import strategies as st

from beam_tfscript.data.column import Column
from beam_tfscript.data.rows import record_batch_to_tuples
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.beam_types import beam_timestamps

_INTEGER_BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
_UNSIGNED_BITS = {"uint8": 8, "uint16": 16, "uint32": 32}
_MICROS = {"s": 1_000_000, "ms": 1000, "us": 1}
_NAMES = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: "__" not in name),
    st.sampled_from(["count", "index", "Größe", "名前", "a b", "x-y", "select"]),
)
# Beam's own limits on timestamps: 64 bits of microseconds, here in whole years.
_TIMESTAMPS_US = st.integers(-(10**15), 10**17)


def _element_columns() -> st.SearchStrategy[Column]:
    plain = [
        "tinyint",
        "smallint",
        "int",
        "bigint",
        *_UNSIGNED_BITS,
        "float",
        "double",
        "float64",
        "boolean",
        "string",
        "varbinary",
    ]
    return st.one_of(
        st.sampled_from([*plain, "date"]).map(lambda kind: Column("x", kind)),
        st.sampled_from(["s", "ms", "us"]).map(lambda unit: Column("x", "time", unit=unit)),
        st.sampled_from(["s", "ms", "us", "ns"]).map(lambda unit: Column("x", "timestamp", unit=unit)),
        st.tuples(st.integers(1, 50), st.integers(0, 50))
        .filter(lambda digits: digits[1] <= digits[0])
        .map(lambda digits: Column("x", "decimal", precision=digits[0], scale=digits[1])),
        st.builds(
            lambda kind, length, fixed: Column("x", kind, length=length, fixed_length=fixed),
            st.sampled_from(["string", "varbinary"]),
            st.integers(1, 5),
            st.booleans(),
        ),
    )


_ELEMENT_COLUMNS = _element_columns()
_SHAPES = st.one_of(
    st.just(()),
    st.just((None,)),
    st.just((None, None)),
    st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
)


@st.composite
def columns(draw: Any, name: str | None = None) -> Column:
    """A column of any type."""
    column = draw(_ELEMENT_COLUMNS)
    return Column(
        **{
            **vars(column),
            "name": draw(_NAMES) if name is None else name,
            "shape": draw(_SHAPES),
            "nullable": draw(st.booleans()),
        }
    )


@st.composite
def schemas(draw: Any, *, max_columns: int = 30, names: st.SearchStrategy[str] = _NAMES) -> Schema:
    """A schema of 1 to `max_columns` columns of any type."""
    chosen = draw(st.lists(names, min_size=1, max_size=max_columns, unique=True))
    return Schema(tuple(draw(columns(name)) for name in chosen))


def elements(column: Column) -> st.SearchStrategy[Any]:
    """Python values of the column's element type, extremes among them."""
    kind = column.kind
    if kind in _INTEGER_BITS:
        limit = 2 ** (_INTEGER_BITS[kind] - 1)
        return st.one_of(st.sampled_from([-limit, -1, 0, 1, limit - 1]), st.integers(-limit, limit - 1))
    if kind in _UNSIGNED_BITS:
        limit = 2 ** _UNSIGNED_BITS[kind]
        return st.one_of(st.sampled_from([0, 1, limit // 2, limit - 1]), st.integers(0, limit - 1))
    if kind == "float":
        return st.floats(width=32)
    if kind in ("double", "float64"):
        return st.floats()
    if kind == "boolean":
        return st.booleans()
    if kind in ("string", "varbinary"):
        high = 20 if column.length is None else column.length
        low = column.length if column.fixed_length and column.length else 0
        return (st.text if kind == "string" else st.binary)(min_size=low, max_size=high)
    if kind == "date":
        return st.dates()
    if kind == "time":
        return st.integers(0, 86400 * 1_000_000 // _MICROS[column.unit or "us"] - 1).map(
            lambda n: _time(n * _MICROS[column.unit or "us"])
        )
    if kind == "timestamp":
        return _timestamps(column.unit or "us")
    digits = st.integers(-(10 ** (column.precision or 1)) + 1, 10 ** (column.precision or 1) - 1)
    return digits.map(lambda n: Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -(column.scale or 0))))


def _timestamps(unit: str) -> st.SearchStrategy[Timestamp]:
    if unit == "ns":
        return st.integers(-(2**63), 2**63 - 1).map(lambda n: Timestamp(0, n, precision=9))
    return _TIMESTAMPS_US.map(lambda n: Timestamp(micros=n // _MICROS[unit] * _MICROS[unit]))


def _time(micros: int) -> dt.time:
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=micros)).time()


def values(column: Column) -> st.SearchStrategy[Any]:
    """Python values of a column, null among them where it is nullable."""
    one = elements(column)
    if column.is_array:
        one = st.lists(one, max_size=4)
    elif column.is_ragged:
        one = st.lists(st.lists(one, max_size=3), max_size=3)
    elif column.is_tensor:
        for size in reversed(column.shape):
            one = st.lists(one, min_size=size or 0, max_size=size)
    return st.one_of(st.none(), one) if column.nullable else one


def rows(schema: Schema, *, max_rows: int = 8) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of a schema, as dicts."""
    return st.lists(st.fixed_dictionaries({column.name: values(column) for column in schema}), max_size=max_rows)


@st.composite
def schemas_and_rows(
    draw: Any, *, max_columns: int = 30, max_rows: int = 8, names: st.SearchStrategy[str] = _NAMES
) -> tuple[Schema, list[dict[str, Any]]]:
    """A schema with rows of it."""
    schema = draw(schemas(max_columns=max_columns, names=names))
    return schema, draw(rows(schema, max_rows=max_rows))


def canonical(value: Any, column: Column) -> Any:
    """Return a value in a form in which two compare equal only if they are the same, bit for bit.

    `double` is compared as the 32-bit float that it travels as.
    """
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        assert value.shape == column.shape
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [canonical(element, column) for element in value]
    if column.kind in ("float", "double", "float64"):
        return _bits(value, exact=column.kind == "float64")
    if column.kind == "decimal":
        return f"{value:.{column.scale}f}" if value else f"{abs(value):.{column.scale}f}"
    return type(value).__name__, value


def canonical_rows(batch: pa.RecordBatch, schema: Schema) -> list[list[Any]]:
    """Return the rows of a batch in that form."""
    tuples = record_batch_to_tuples(batch, schema, timestamps=beam_timestamps)
    return [[canonical(value, column) for value, column in zip(row, schema)] for row in tuples]


def _bits(value: float, *, exact: bool) -> str | bytes:
    if math.isnan(value):
        return "nan"
    if exact:
        return struct.pack("<d", value)
    with np.errstate(over="ignore"):
        return np.float32(value).tobytes()

"""Rows to Arrow and back: every form of row, every type, and values that do not fit."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
from decimal import Decimal
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given

from beam_tfscript.data.rows import record_batch_to_tuples, rows_to_record_batch, split_rows
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.beam_types import beam_timestamps
from beam_tfscript.errors import RowError
from tests.strategies import canonical, canonical_rows, schemas_and_rows


class Pair(NamedTuple):
    id: str
    x: float


@dataclasses.dataclass
class PairClass:
    id: str
    x: float


class OldTimestamp:
    """A Beam Timestamp as Beam has it up to 2.75: `micros` is an attribute of instances only."""

    def __init__(self, micros: int):
        self.micros = micros


class NotATime:
    """No timestamp, whatever its attributes are called."""

    micros = 0


OldTimestamp.__module__, OldTimestamp.__name__ = "apache_beam.utils.timestamp", "Timestamp"
OLD_TIMESTAMP = OldTimestamp(1_500_000)
PAIRS = Schema.parse("id string, x float")
EXPECTED = [("a", 0.5), ("b", None)]
MIXED = [
    {"id": "a", "x": 0.5},
    beam.Row(id="a", x=0.5),
    Pair("a", 0.5),
    PairClass("a", 0.5),
    collections.OrderedDict(x=0.5, id="a", other=3),
    np.array([("a", 0.5)], dtype=[("id", "U3"), ("x", "f4")])[0],
]


def convert(value: Any, type_text: str, *, count: int = 1) -> list[Any]:
    """The values that come back for a column with `count` times this value."""
    schema = Schema.parse(f"x {type_text}")
    batch = rows_to_record_batch([{"x": value}] * count, schema)
    assert batch.schema.equals(schema.to_arrow())
    return [row[0] for row in record_batch_to_tuples(batch, schema, timestamps=beam_timestamps)]


def error_of(value: Any, type_text: str, *, fit: Any = None) -> RowError:
    """The error for the value as row 4 of seven, those before it being `fit`."""
    schema = Schema.parse(f"id int, x {type_text}")
    rows = [{"id": n, "x": fit} for n in range(4)] + [{"id": n, "x": value} for n in range(3)]
    with pytest.raises(RowError) as caught:
        rows_to_record_batch(rows, schema)
    assert (caught.value.index, caught.value.column) == (4, "x")
    assert str(caught.value).startswith("Row #4, column 'x' (")
    return caught.value


@pytest.mark.parametrize("row", MIXED, ids=lambda row: type(row).__name__)
def test_takes_rows_of_any_form(row):
    assert record_batch_to_tuples(rows_to_record_batch([row, row], PAIRS), PAIRS) == [("a", 0.5)] * 2


def test_takes_rows_of_mixed_forms():
    assert record_batch_to_tuples(rows_to_record_batch(MIXED, PAIRS), PAIRS) == [("a", 0.5)] * len(MIXED)


@pytest.mark.parametrize("row", MIXED, ids=lambda row: type(row).__name__)
def test_rejects_a_row_without_the_column_and_names_the_near_one(row):
    schema = Schema.parse("id string, xx float")
    with pytest.raises(RowError, match=r"Row #0, column 'xx' \(float\): .*no such column.*'x'.*put None there"):
        rows_to_record_batch([row], schema)


def test_rejects_a_named_tuple_without_a_column_called_like_a_method():
    with pytest.raises(RowError, match="Row #0, column 'count' .*no such column"):
        rows_to_record_batch([Pair("a", 0.5)], Schema.parse("count int"))


def test_names_the_first_row_that_lacks_a_column():
    rows = [{"id": "a", "x": 1.0}, {"id": "b", "x": 1.0}, {"id": "c"}, {"id": "d"}]
    with pytest.raises(RowError, match="Row #2, column 'x'") as caught:
        rows_to_record_batch(rows, PAIRS)
    assert caught.value.index == 2


def test_wide_rows_are_named_by_their_own_index():
    schema = Schema.parse(", ".join(f"c{n} bigint" for n in range(400)))
    rows = [dict.fromkeys(schema.names, index) for index in range(1000)]
    assert record_batch_to_tuples(rows_to_record_batch(rows, schema), schema)[777] == (777,) * 400
    rows[900]["c3"] = "x"
    with pytest.raises(RowError, match="Row #900, column 'c3'"):
        rows_to_record_batch(rows, schema)
    del rows[899]["c399"]
    with pytest.raises(RowError, match="Row #899, column 'c399'"):
        rows_to_record_batch(rows, schema)


def test_no_rows_make_an_empty_batch():
    batch = rows_to_record_batch([], PAIRS)
    assert batch.num_rows == 0 and batch.schema.equals(PAIRS.to_arrow())
    assert record_batch_to_tuples(batch, PAIRS) == []


class Color(enum.IntEnum):
    RED = 2


UTC = dt.timezone.utc
PLUS_2 = dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "type_text", "out"),
    [
        (np.int64(127), "tinyint", 127),
        (Color.RED, "tinyint", 2),
        (np.uint8(255), "smallint", 255),
        (-(2**63), "bigint", -(2**63)),
        (3, "float", 3.0),
        (2**40, "float", float(2**40)),
        (2**70, "double", float(2**70)),
        (np.float16(0.5), "float", 0.5),
        (np.float64(0.1), "float64", 0.1),
        (np.longdouble(0.5), "double", 0.5),
        (np.array([0.5], np.longdouble), "array<float>", [0.5]),
        (0.1, "float", float(np.float32(0.1))),
        (float("-inf"), "float", float("-inf")),
        (np.bool_(True), "boolean", True),
        (np.str_("é"), "string", "é"),
        ("\U0001f600\0", "string", "\U0001f600\0"),
        (bytearray(b"\xff"), "varbinary", b"\xff"),
        (memoryview(b"ab"), "varbinary", b"ab"),
        (dt.date(1, 1, 1), "date", dt.date(1, 1, 1)),
        (np.datetime64("2024-02-29"), "date", dt.date(2024, 2, 29)),
        (np.datetime64("2024-02-29T00:00"), "date", dt.date(2024, 2, 29)),
        (dt.time(23, 59, 59, 999999), "time", dt.time(23, 59, 59, 999999)),
        (dt.time(1, 2, 3, 4000), "time(ms)", dt.time(1, 2, 3, 4000)),
        (Timestamp(1.5), "timestamp", Timestamp(1.5)),
        (Timestamp(-1), "timestamp(s)", Timestamp(-1)),
        (Timestamp(0, 1, 9), "timestamp(ns)", Timestamp(0, 1, 9)),
        (OLD_TIMESTAMP, "timestamp", Timestamp(1.5)),
        (OLD_TIMESTAMP, "timestamp(ns)", Timestamp(1.5)),
        (dt.datetime(1970, 1, 1, 2, tzinfo=PLUS_2), "timestamp", Timestamp(0)),
        (dt.datetime(1970, 1, 1, 0, 0, 1), "timestamp(ms)", Timestamp(1)),
        (np.datetime64("1970-01-01T00:00:00.000000001"), "timestamp(ns)", Timestamp(0, 1, 9)),
        (7, "decimal(5, 2)", Decimal("7.00")),
        (Decimal("1E+2"), "decimal(5, 2)", Decimal("100.00")),
        ((1, np.int8(2)), "array<int>", [1, 2]),
        (np.arange(3, dtype=">i2"), "array<bigint>", [0, 1, 2]),
        (np.array([], np.float64), "array<float>", []),
        (np.array(["a", None], object)[:1], "array<string>", ["a"]),
        (np.array(["2024-01-01"], "M8[D]"), "array<date>", [dt.date(2024, 1, 1)]),
        (range(3), "array<float>", [0.0, 1.0, 2.0]),
        ([[1], [], np.array([2, 3])], "array<array<bigint>>", [[1], [], [2, 3]]),
        (np.eye(2, dtype=np.int8), "array<array<tinyint>>", [[1, 0], [0, 1]]),
        (np.eye(2, dtype=bool), "array<array<boolean>>", [[True, False], [False, True]]),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_takes_values_that_fit_exactly(value, type_text, out, count):
    found = convert(value, type_text, count=count)
    assert found == [out] * count
    assert {type(one) for one in found} == {type(out)}


@pytest.mark.parametrize(
    ("value", "type_text", "dtype"),
    [
        ([[1, 2], [3, 4]], "tensor<smallint>(2, 2)", np.int16),
        (np.ones((2, 2)), "tensor<float>(2, 2)", np.float32),
        (np.ones((2, 2)), "tensor<double>(2, 2)", np.float64),
        ([[True, False], [False, True]], "tensor<boolean>(2, 2)", np.bool_),
        ([["a", "b"], ["c", "d"]], "tensor<string>(2, 2)", object),
        ([1, 2.5], "vector(2)", np.float32),
    ],
)
def test_tensors_come_out_as_arrays_of_their_dtype(value, type_text, dtype):
    for found in (*convert(value, type_text), *convert(value, type_text, count=3)):
        assert isinstance(found, np.ndarray) and found.dtype == dtype
        np.testing.assert_array_equal(found, np.asarray(value))


@pytest.mark.parametrize(
    ("value", "type_text", "words"),
    [
        (128, "tinyint", "128 is out of range for tinyint (-128 to 127)"),
        (-32769, "smallint", "out of range for smallint"),
        (2**31, "int", "out of range for int"),
        (2**63, "bigint", "out of range for bigint"),
        (np.uint64(2**63), "bigint", "out of range for bigint"),
        (1.0, "int", "1.0 is a float where int is expected"),
        (np.float32(1), "bigint", "is a float32 where int is expected"),
        ("1", "int", "'1' is a str where int is expected"),
        (True, "int", "True is a bool where int is expected"),
        (np.True_, "bigint", "where int is expected"),
        (Decimal(1), "bigint", "is a Decimal where int is expected"),
        (True, "float", "True is a bool where float is expected"),
        (False, "float64", "False is a bool where float is expected"),
        (np.True_, "float", "where float is expected"),
        ("1.5", "float", "'1.5' is a str where float is expected"),
        (2**24 + 1, "float", "is an integer that float does not hold exactly"),
        (2**53 + 1, "double", "is an integer that double does not hold exactly"),
        (2**53 + 1, "float64", "is an integer that float64 does not hold exactly"),
        ("1.5", "double", "is a str where float is expected"),
        (10**400, "double", "is an integer that double does not hold exactly"),
        (1e300, "float", "1e+300 is out of range for float (32 bits)"),
        (Decimal("0.5"), "float", "is a Decimal where float is expected"),
        (1, "boolean", "1 is an int where bool is expected"),
        ("true", "boolean", "is a str where bool is expected"),
        (b"a", "string", "b'a' is a bytes where str is expected; decode it"),
        (1, "string", "1 is an int where str is expected"),
        ("\ud800", "string", "is not valid Unicode"),
        ("a", "varbinary", "'a' is a str where bytes is expected; encode it"),
        ("abc", "char(2)", "does not have exactly 2 characters"),
        ("éé", "varchar(1)", "does not have at most 1 characters"),
        (b"abc", "varbinary(2)", "does not have at most 2 bytes"),
        (b"a", "binary(2)", "does not have exactly 2 bytes"),
        (dt.datetime(2024, 1, 1), "date", "is a datetime where datetime.date is expected"),
        (19000, "date", "is an int where datetime.date is expected"),
        (np.datetime64("2024-01-01T01"), "date", "is not a whole number of D"),
        (dt.time(1, tzinfo=UTC), "time", "has a time zone"),
        (dt.time(0, 0, 0, 1), "time(ms)", "is not a whole number of ms"),
        (3600, "time", "is an int where datetime.time"),
        (0, "timestamp", "is an int where a Beam Timestamp or a datetime.datetime"),
        (dt.date(2024, 1, 1), "timestamp", "is a date where a Beam Timestamp"),
        (Timestamp(0, 1, 9), "timestamp", "is not a whole number of us"),
        (dt.datetime(2024, 1, 1, 0, 0, 0, 1), "timestamp(ms)", "is not a whole number of ms"),
        (NotATime(), "timestamp", "is a NotATime where a Beam Timestamp"),
        (np.datetime64("NaT"), "timestamp", "is not a time (NaT); write None for null"),
        (dt.datetime(9999, 1, 1), "timestamp(ns)", "out of range"),
        (Decimal("1.555"), "decimal(5, 2)", "does not fit decimal(5, 2) exactly"),
        (Decimal("1e-20"), "decimal(5, 2)", "does not fit decimal(5, 2) exactly"),
        (Decimal("1000"), "decimal(5, 2)", "does not fit decimal(5, 2) exactly"),
        (Decimal("NaN"), "decimal(5, 2)", "does not fit decimal(5, 2) exactly"),
        (1.5, "decimal(5, 2)", "is a float where decimal.Decimal or int is expected"),
        ([1, 2.5], "array<int>", "[1, 2.5] has an element that is a float where int is expected"),
        ([1.5, True], "array<float>", "has an element that is a bool where float is expected"),
        ([1e300], "array<float>", "has an element that is out of range for float"),
        (np.array([300]), "array<tinyint>", "has an element that is out of range for tinyint"),
        (np.array([0.5]), "array<bigint>", "has an element that is a float64 where int is expected"),
        (np.array([1], bool), "array<int>", "where int is expected"),
        (np.array([2**24 + 1]), "array<float>", "has an element that is an integer that float32 does not hold exactly"),
        (np.array([2**63 - 1]), "array<double>", "does not hold exactly"),
        (np.array([1], np.longdouble), "array<float64>", "has an element that is a longdouble where float"),
        (np.array([1], "m8[s]"), "array<bigint>", "where int is expected"),
        ([1, None], "array<int>", "has an element that is null; only the whole value may be null"),
        (["abc"], "array<char(2)>", "has an element that does not have exactly 2 characters"),
        ("abc", "array<string>", "is or holds a str where a list, tuple or numpy array is expected"),
        (3, "array<int>", "is or holds an int where a list"),
        ({1, 2}, "array<int>", "is or holds a set where a list"),
        (np.array(3), "array<int>", "is a numpy array without dimensions"),
        ([1], "array<array<int>>", "is or holds an int where a list"),
        ([[1], None], "array<array<int>>", "is or holds a NoneType where a list"),
        (np.zeros(2), "array<array<float>>", "holds scalars where lists are expected"),
        (np.zeros((2, 2)), "array<float>", "has 1 dimensions too many"),
        (np.zeros((2, 3)), "tensor<float>(2, 2)", "does not have the shape (2, 2), but (2, 3)"),
        ([1, 2, 3], "vector(2)", "does not have the shape (2,), but (3,)"),
        ([[1, 2], [3]], "tensor<int>(2, 2)", "does not have the shape (2, 2)"),
        ([[1, 2], [3, None]], "tensor<int>(2, 2)", "has an element that is null"),
        (None, "int not null", "None is null, but the column is `not null`"),
        (None, "array<int> not null", "None is null, but the column is `not null`"),
        (None, "vector(2) not null", "None is null, but the column is `not null`"),
    ],
)
def test_rejects_values_that_do_not_fit(value, type_text, words):
    fit = None if "not null" not in type_text else {"int": 1, "array<int>": [1], "vector(2)": [1, 2]}[type_text[:-9]]
    message = str(error_of(value, type_text, fit=fit))
    assert (
        words in message
        and f"({type_text.replace('vector(2)', 'tensor<float>(2)').removesuffix(' not null')})" in message
    )


def test_names_the_first_of_several_bad_rows_whichever_the_column():
    schema = Schema.parse("a int, b int")
    rows = [{"a": 1, "b": 1}, {"a": 1, "b": "x"}, {"a": "x", "b": 1}]
    with pytest.raises(RowError, match="Row #1, column 'b'"):
        rows_to_record_batch(rows, schema)


def test_shortens_a_long_value_in_the_message():
    assert len(str(error_of(list(range(10**6)), "string"))) < 250


def test_null_is_neither_empty_nor_zero():
    schema = Schema.parse("a string, b bigint, c array<int>, d vector(1), e array<array<int>>, f boolean")
    rows = [dict.fromkeys(schema.names), {"a": "", "b": 0, "c": [], "d": [0], "e": [], "f": False}]
    nulls, empties = record_batch_to_tuples(rows_to_record_batch(rows, schema), schema)
    assert nulls == (None,) * 6
    assert empties == ("", 0, [], np.zeros(1, np.float32), [], False)


@given(schemas_and_rows(max_columns=6))
def test_every_value_comes_back(case):
    schema, rows = case
    expected = [[canonical(row[column.name], column) for column in schema] for row in rows]
    assert canonical_rows(rows_to_record_batch(rows, schema), schema) == expected


def test_splits_bad_rows_off():
    rows = [{"id": str(n), "x": float(n)} for n in range(100)]
    rows[3]["x"] = "three"
    rows[50] = {"id": "50"}
    rows[99]["id"], rows[99]["x"] = b"99", "x"
    batch, bad = split_rows(rows, PAIRS)
    assert batch.column("id").to_pylist() == [str(n) for n in range(100) if n not in (3, 50, 99)]
    assert [(index, error.index, error.column) for index, error in bad] == [
        (3, 3, "x"),
        (50, 50, "x"),
        (99, 99, "id"),
    ]
    assert "'three' is a str" in str(bad[0][1])


def test_splits_off_all_rows_and_none():
    assert split_rows([{"x": 1.0}] * 3, Schema.parse("x float"))[1] == []
    batch, bad = split_rows([{"x": "1"}] * 3, Schema.parse("x float"))
    assert batch.num_rows == 0 and [index for index, _ in bad] == [0, 1, 2]

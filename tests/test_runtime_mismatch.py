"""Rows that do not fit the output schema: refused at the call, by an error that names the column and the row."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pytest

from beam_tfscript.data.column import Column
from beam_tfscript.data.schema import Schema
from beam_tfscript.runtime.columns import OutputMismatch, columns_from_wire
from beam_tfscript.runtime.writing.encode import ExampleEncoder


def encoder(text: str) -> ExampleEncoder:
    return ExampleEncoder(columns_from_wire(Schema.parse(text).to_wire()))


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ("x int", 2**31, "out of range: -2147483648 to 2147483647"),
        ("x int", np.int64(-(2**31) - 1), "out of range"),
        ("x bigint", 2**63, "out of range"),
        ("x bigint", np.uint64(2**63), "out of range"),
        ("x int", 1.0, "1.0 (float) is not a whole number"),
        ("x int", float("nan"), "not a whole number"),
        ("x int", "1", "'1' (str) is not a whole number"),
        ("x int", True, "no bool"),
        ("x float", 1e39, "out of the range of float32"),
        ("x float", 2**24 + 1, "more digits"),
        ("x double", 1e39, "out of the range of float32"),
        ("x float64", 2**53 + 1, "more digits"),
        ("x float64", 10**400, "out of the range of float64"),
        ("x float", "1.5", "not a number"),
        ("x float", decimal.Decimal("1.5"), "not a number"),
        ("x float", True, "no bool"),
        ("x float", [1.0, 2.0], "not a number"),
        ("x boolean", 1, "a bool"),
        ("x boolean", "yes", "a bool"),
        ("x string", 1, "expected str or UTF-8 bytes, got 1 (int)"),
        ("x string", b"\xff", "not UTF-8"),
        ("x string", "\ud800", "not UTF-8"),
        ("x string", ["a"], "expected str"),
        ("x varchar(2)", "äöü", "3 characters, not at most 2"),
        ("x char(2)", "a", "1 characters, not exactly 2"),
        ("x varbinary(1)", b"ab", "2 bytes, not at most 1"),
        ("x varbinary", "text", "encode the text"),
        ("x date", dt.datetime(2020, 1, 1), "expected datetime.date"),
        ("x date", dt.date.max.toordinal(), "out of range"),
        ("x date", np.datetime64("2020-01-01T01"), "not a whole number of days"),
        ("x time", dt.time(1, tzinfo=dt.timezone.utc), "without a time zone"),
        ("x time", -1, "out of range"),
        ("x time(s)", dt.time(0, 0, 0, 1), "not a whole number of s"),
        ("x timestamp", 1.5, "expected datetime.datetime"),
        ("x timestamp(s)", dt.datetime(2020, 1, 1, 0, 0, 0, 1), "not a whole number of s"),
        ("x timestamp(ns)", np.datetime64("9999-01-01", "s"), "out of range"),
        ("x decimal(4, 2)", "1.001", "without rounding"),
        ("x decimal(4, 2)", decimal.Decimal("100"), "without rounding"),
        ("x decimal(4, 2)", "one", "without rounding"),
        ("x decimal(4, 2)", decimal.Decimal("NaN"), "without rounding"),
        ("x decimal(4, 2)", 1.5, "expected Decimal"),
        ("x array<float>", 1.0, "an array is expected, got 1.0 (float)"),
        ("x array<string>", "text", "an array is expected"),
        ("x array<int>", [1, None], "a null (None) inside an array"),
        ("x array<int>", [1, 2.5], "not a whole number"),
        ("x array<int>", [[1], [2, 3]], "not a whole number"),
        ("x array<timestamp>", np.array(["NaT"], "M8[us]"), "a null (None) inside an array"),
        ("x array<array<int>>", [[1], None], "inside an array cannot be null"),
        ("x array<array<int>>", [1], "an array is expected"),
        ("x array<array<int>>", [[1], [2**31]], "out of range"),
        ("x tensor<float>(2, 2)", [[1.0, 2.0]], "shape (2, 2) is expected, got (1, 2)"),
        ("x tensor<float>(2, 2)", [[1.0, 2.0], [3.0]], "shape (2, 2) is expected"),
        ("x tensor<float>(2)", [1.0, None], "a null (None) inside"),
        ("x float not null", None, "null (None) in a column that is not null"),
        ("x array<int> not null", None, "null (None) in a column that is not null"),
        ("x tensor<int>(1) not null", None, "null (None) in a column that is not null"),
        ("x timestamp not null", np.datetime64("NaT"), "null (None)"),
    ],
)
def test_names_column_row_and_value_that_do_not_fit(schema, value, words):
    encode = encoder(schema)
    column = Schema.parse(schema).columns[0]
    good = good_value(column)
    encode.encode_batch({"x": [good, good]})
    with pytest.raises(OutputMismatch) as caught:
        encode.encode_batch({"x": [good, value, good]})
    assert f'column "x" ({column.type}' in str(caught.value)
    assert ", row 1: " in str(caught.value)
    assert words in str(caught.value)
    with pytest.raises(OutputMismatch) as caught:
        encode.encode_row({"x": value})
    assert words in str(caught.value) and "row" not in str(caught.value).split(": ")[0]


def good_value(column: Column) -> Any:
    value: Any = {
        "boolean": True, "string": "ab", "varbinary": b"a", "date": dt.date(2020, 1, 1), "time": dt.time(1),
        "timestamp": dt.datetime(2020, 1, 1), "decimal": "1.5",
    }.get(column.kind, 1)  # fmt: skip
    for size in reversed(column.shape):
        value = [value] * (1 if size is None else size)
    return value


@pytest.mark.parametrize(
    "columns",
    [
        {"x": np.arange(6).reshape(3, 2)},
        {"x": "abc"},
        {"x": 5},
        {"x": {"a": 1}},
        {"x": iter([1])},
        {"x": np.float32(1)},
    ],
)
def test_rejects_what_is_no_column_of_scalars(columns):
    with pytest.raises(OutputMismatch, match='"x"'):
        encoder("x bigint").encode_batch(columns)


def test_rejects_columns_that_are_not_the_schemas():
    both = encoder("id string, score float")
    with pytest.raises(OutputMismatch, match=r"missing: score\. It is: id string, score float"):
        both.encode_batch({"id": ["a"]})
    with pytest.raises(OutputMismatch, match="missing: score; unknown: scores"):
        both.encode_batch({"id": ["a"], "scores": [1.0]})
    with pytest.raises(OutputMismatch, match="unknown: extra"):
        both.encode_row({"id": "a", "score": 1.0, "extra": 1})
    with pytest.raises(OutputMismatch, match="id: 2, score: 3"):
        both.encode_batch({"id": ["a", "b"], "score": [1.0, 2.0, 3.0]})


def test_a_mask_of_a_column_that_is_not_null_is_refused():
    with pytest.raises(OutputMismatch, match="nullable"):
        encoder("x bigint not null").encode_batch({"x": [1], "x__present": [True]})


def test_error_is_raised_at_the_call():
    with pytest.raises(OutputMismatch) as caught:
        encoder("x int").encode_batch({"x": ["a"]})
    assert 'encoder("x int").encode_batch' in str(caught.traceback[0].statement)

"""Arrow data of related types: cast if no value changes, else refused."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from beam_tfscript.data.align import align_record_batch
from beam_tfscript.data.rows import record_batch_to_tuples, rows_to_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import RowError, SchemaError
from tests.strategies import canonical_rows, schemas_and_rows


@given(schemas_and_rows(max_columns=4))
def test_arrow_data_are_aligned_without_change(case):
    schema, rows = case
    batch = rows_to_record_batch(rows, schema)
    backwards = pa.table(batch.columns[::-1], names=list(schema.names[::-1]))
    assert canonical_rows(align_record_batch(backwards, schema), schema) == canonical_rows(batch, schema)


ALIGNED = [
    ("x string", pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    ("x float", pa.array([1, None, 2**30]), [1.0, None, float(2**30)]),
    ("x tinyint", pa.array([1, 2], pa.uint64()), [1, 2]),
    ("x float", pa.array([1.5], pa.float64()), [1.5]),
    ("x date", pa.array([dt.date(2024, 1, 1)], pa.date64()), [dt.date(2024, 1, 1)]),
    ("x decimal(6, 3)", pa.array([Decimal("1.5")]), [Decimal("1.500")]),
    ("x array<float>", pa.array([[1.0], None, []]), [[1.0], None, []]),
    ("x array<float>", pa.array([None, []]), [None, []]),
    ("x array<array<int>>", pa.array([[[1], []], None]), [[[1], []], None]),
    ("x vector(2)", pa.array([[1, 2], None, [3, 4]]), [[1, 2], None, [3, 4]]),
    ("x binary(2)", pa.array([b"ab"], pa.binary(2)), [b"ab"]),
    ("x array<int>", pa.nulls(2), [None, None]),
]


@pytest.mark.parametrize(("text", "array", "out"), ALIGNED)
@pytest.mark.parametrize("make", [pa.table, pa.record_batch])
def test_casts_arrow_data_of_related_types(text, array, out, make):
    schema = Schema.parse(text)
    batch = align_record_batch(make([array.slice(0)], names=["x"]), schema)
    assert batch.schema.equals(schema.to_arrow())
    found = [None if row[0] is None else row[0] for row in record_batch_to_tuples(batch, schema)]
    assert [one.tolist() if isinstance(one, np.ndarray) else one for one in found] == out


def test_casts_arrow_tensors_and_slices_and_chunks():
    schema = Schema.parse("x tensor<float>(2, 2)")
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12.0).reshape(3, 2, 2))
    table = pa.table([pa.chunked_array([tensors.slice(1), tensors.slice(0, 1)])], names=["x"])
    found = record_batch_to_tuples(align_record_batch(table, schema), schema)
    assert [one.tolist() for (one,) in found] == [[[4, 5], [6, 7]], [[8, 9], [10, 11]], [[0, 1], [2, 3]]]


@pytest.mark.parametrize(
    ("text", "array", "words"),
    [
        ("x tinyint", pa.array([1, 300]), "300 does not fit tinyint exactly"),
        ("x float", pa.array([1.0, 1e300]), "1e+300 is out of range for float"),
        ("x float", pa.array([1, 2**24 + 1]), "is an integer that float does not hold exactly"),
        ("x double", pa.array([1, 2**64 - 1], pa.uint64()), "does not hold exactly"),
        ("x timestamp(s)", pa.array([1000, 1], pa.timestamp("ms")), "does not fit timestamp(s) exactly"),
        ("x decimal(4, 1)", pa.array([Decimal("1.50"), Decimal("1.55")]), "does not fit decimal(4, 1) exactly"),
        ("x int not null", pa.array([1, None]), "is null, but the column is `not null`"),
        ("x array<int>", pa.array([[1], [None]]), "has an element that is null"),
        ("x array<array<int>>", pa.array([[[1]], [None]]), "has an element that is null"),
        ("x vector(2)", pa.array([[1.0, 2.0], [1.0]]), "does not have the shape (2,)"),
        ("x char(1)", pa.array(["a", "bc"]), "does not have exactly 1 characters"),
        ("x date", pa.array([0, 10**7], pa.date32()), "out of range for date"),
    ],
)
def test_rejects_arrow_values_that_do_not_fit(text, array, words):
    with pytest.raises(RowError, match=re.escape(words)) as caught:
        align_record_batch(pa.table([array], names=["x"]), Schema.parse(text))
    assert (caught.value.index, caught.value.column) == (1, "x")


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ("x string", pa.array([1])),
        ("x int", pa.array([1.0])),
        ("x int", pa.array(["1"])),
        ("x int", pa.array([True])),
        ("x boolean", pa.array([1])),
        ("x varbinary", pa.array(["a"])),
        ("x string", pa.array([b"a"])),
        ("x array<int>", pa.array([1])),
        ("x int", pa.array([[1]])),
        ("x array<int>", pa.array([[[1]]])),
        ("x timestamp", pa.array([1])),
        ("x tensor<float>(2)", pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((1, 3)))),
    ],
)
def test_rejects_arrow_data_of_other_types(text, array):
    with pytest.raises(SchemaError, match="cast the data first, or change the schema"):
        align_record_batch(pa.table([array], names=["x"]), Schema.parse(text))


def test_rejects_arrow_data_without_the_column():
    with pytest.raises(SchemaError, match="'scor' is missing. Did you mean 'score'"):
        align_record_batch(pa.table({"score": [1.0]}), Schema.parse("scor float"))
    twice = pa.table([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(SchemaError, match="'x' comes more than once"):
        align_record_batch(twice, Schema.parse("x int"))

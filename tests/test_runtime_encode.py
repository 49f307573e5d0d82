"""Writing in the script process: TensorFlow and the pipeline read the values that the encoder wrote."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_tfscript.data.column import Column
from beam_tfscript.data.examples import ExampleDecoder
from beam_tfscript.data.rows import record_batch_to_tuples
from beam_tfscript.data.schema import Schema
from beam_tfscript.runtime.columns import OutputMismatch, columns_from_wire
from beam_tfscript.runtime.writing.encode import ExampleEncoder
from beam_tfscript.runtime.writing.features import HeadersByLength
from tests.strategies import canonical, schemas_and_rows


def encoder(text: str) -> ExampleEncoder:
    return ExampleEncoder(columns_from_wire(Schema.parse(text).to_wire()))


def as_written(value: Any, column: Column) -> Any:
    """Return a value of `tests.strategies` as a script would write it."""
    if value is None:
        return None
    if isinstance(value, list):
        return [as_written(element, column) for element in value]
    if column.kind == "timestamp":
        return in_units(value, column)
    if column.kind == "double":
        with np.errstate(over="ignore"):
            return float(np.float32(value))
    return value


def in_units(timestamp: Any, column: Column) -> int:
    if column.unit == "ns":
        return timestamp.nanos
    return timestamp.micros // {"s": 1_000_000, "ms": 1000, "us": 1}[column.unit or "us"]


def batch_of(schema: Schema, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {column.name: [as_written(row[column.name], column) for row in rows] for column in schema}


def tuples_of(schema: Schema, records: list[bytes]) -> list[tuple]:
    """Decode Examples as the pipeline does."""
    return record_batch_to_tuples(ExampleDecoder(schema).decode(records), schema)


def decoded(schema: Schema, records: list[bytes]) -> list[list[Any]]:
    """Decode Examples to a form that compares bit for bit."""
    return [[canonical(value, column) for value, column in zip(row, schema)] for row in tuples_of(schema, records)]


def expected(schema: Schema, rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [[canonical(as_expected(row[column.name], column), column) for column in schema] for row in rows]


def as_expected(value: Any, column: Column) -> Any:
    if column.kind != "timestamp" or value is None:
        return value
    if isinstance(value, list):
        return [as_expected(element, column) for element in value]
    return in_units(value, column)


@given(schemas_and_rows(max_columns=6))
@settings(deadline=None, max_examples=300)
def test_pipeline_decodes_what_a_batch_was_written_with(schema_and_rows):
    schema, rows = schema_and_rows
    records = ExampleEncoder(columns_from_wire(schema.to_wire())).encode_batch(batch_of(schema, rows))
    assert len(records) == len(rows)
    if rows:
        assert decoded(schema, records) == expected(schema, rows)


@given(schemas_and_rows(max_columns=6))
@settings(deadline=None, max_examples=200)
def test_pipeline_decodes_what_a_row_was_written_with(schema_and_rows):
    schema, rows = schema_and_rows
    encode = ExampleEncoder(columns_from_wire(schema.to_wire())).encode_row
    records = [encode({column.name: as_written(row[column.name], column) for column in schema}) for row in rows]
    if rows:
        assert decoded(schema, records) == expected(schema, rows)


def reference(schema: Schema, row: dict[str, Any]) -> Any:
    """Return a `tf.train.Example` of a row of ints, floats, strs and bytes, built feature by feature."""
    import tensorflow as tf

    example = tf.train.Example()
    for column in schema:
        feature = example.features.feature[column.name]
        feature.SetInParent()
        value = row[column.name]
        if value is None:
            continue
        values = np.array(value, object).reshape(-1).tolist()
        values = [
            one.encode() if isinstance(one, str) else int(one) if isinstance(one, bool) else one for one in values
        ]
        field = getattr(feature, column.feature + "_list")
        field.SetInParent()
        field.value.extend(values)
    return example


_PLAIN = {"bigint", "smallint", "float", "boolean", "string", "varbinary"}


@given(
    schemas_and_rows(max_columns=4).filter(
        lambda made: all(column.kind in _PLAIN and not column.is_ragged for column in made[0])
    )
)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.filter_too_much])
def test_tensorflow_parses_what_it_would_have_serialized_itself(schema_and_rows):
    import tensorflow as tf

    schema, rows = schema_and_rows
    records = ExampleEncoder(columns_from_wire(schema.to_wire())).encode_batch(batch_of(schema, rows))
    for record, row in zip(records, rows):
        # Compared as bytes: a nan is not equal to itself.
        found = tf.train.Example.FromString(record).SerializeToString(deterministic=True)
        assert found == reference(schema, row).SerializeToString(deterministic=True)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_no_value_is_changed_to_fit(data):
    """Write any number into any integer column: the same number comes out, or the error names its row."""
    kind, bits = data.draw(st.sampled_from([("tinyint", 8), ("smallint", 16), ("int", 32), ("bigint", 64)]))
    numbers = st.one_of(st.integers(-(2**65), 2**65), st.integers(-200, 200), st.floats(), st.booleans())
    values = data.draw(st.lists(numbers, min_size=1, max_size=5))
    limit = 2 ** (bits - 1)
    wrong = [index for index, value in enumerate(values) if type(value) is not int or not -limit <= value < limit]
    encode = encoder(f"x {kind} not null").encode_batch
    if wrong:
        with pytest.raises(OutputMismatch, match=f'"x".*row {wrong[0]}:'):
            encode({"x": values})
    else:
        schema = Schema.parse(f"x {kind} not null")
        rows = tuples_of(schema, encode({"x": values}))
        assert [row[0] for row in rows] == values


@pytest.mark.parametrize(
    "scores",
    [
        [1.0, 2.0],
        (1.0, 2.0),
        [1, 2],
        [[1.0], [2.0]],
        [np.float32(1), np.array([2.0])],
        np.array([1.0, 2.0]),
        np.array([1.0, 2.0], np.float16),
        np.array([1.0, 2.0], ">f4"),
        np.array([[1.0], [2.0]], np.float32),
        np.array([1, 2], np.uint8),
        np.array([1.0, 2.0], object),
        np.array([[1.0, 9.0], [2.0, 9.0]])[:, 0],
        np.ma.masked_array([1.0, 2.0], [False, False]),
    ],
    ids=repr,
)
def test_takes_scalars_in_any_container(scores):
    schema = Schema.parse("x float")
    records = encoder("x float").encode_batch({"x": scores})
    assert tuples_of(schema, records) == [(1.0,), (2.0,)]


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2], [], None],
        [(1, 2), (), None],
        [np.array([1, 2], np.int16), np.array([]), None],
        [np.array([1, 2]), [], None],
        np.array([[1, 2], [], None], object),
    ],
    ids=repr,
)
def test_takes_arrays_in_any_container(rows):
    schema = Schema.parse("x array<bigint>")
    records = encoder("x array<bigint>").encode_batch({"x": rows})
    assert tuples_of(schema, records) == [([1, 2],), ([],), (None,)]


@pytest.mark.parametrize("nulls", [np.ma.masked_array([7, 8], [True, False]), [None, 8], np.array([None, 8], object)])
def test_null_is_not_zero(nulls):
    schema = Schema.parse("x bigint")
    records = encoder("x bigint").encode_batch({"x": nulls})
    assert tuples_of(schema, records) == [(None,), (8,)]


def test_a_mask_makes_nulls_of_values():
    schema = Schema.parse("x bigint, a array<string>")
    encode = encoder("x bigint, a array<string>")
    mask = np.array([False, True])
    batch = {"x": np.array([7, 8]), "x__present": mask, "a": [["a"], ["b"]], "a__present": ~mask}
    rows = tuples_of(schema, encode.encode_batch(batch))
    assert rows == [(None, ["a"]), (8, None)]
    row = encode.encode_row({"x": 7, "x__present": np.False_, "a": ["a"]})
    assert tuples_of(schema, [row]) == [(None, ["a"])]
    with pytest.raises(OutputMismatch, match="x__present must be an array of 2 bools"):
        encode.encode_batch({**batch, "x__present": [True]})
    with pytest.raises(OutputMismatch, match="row 1: .*whole number"):
        encode.encode_batch({**batch, "x": [7.5, 8.5]})


def test_floats_keep_their_bits():
    values = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 0.1]
    schema = Schema.parse("x float64, y float")
    records = encoder(str(schema)).encode_batch({"x": values, "y": values})
    rows = tuples_of(schema, records)
    assert [canonical(row[0], schema.columns[0]) for row in rows] == [canonical(v, schema.columns[0]) for v in values]
    assert [canonical(row[1], schema.columns[1]) for row in rows] == [canonical(v, schema.columns[1]) for v in values]


def test_headers_of_many_lengths_do_not_pile_up(monkeypatch):
    monkeypatch.setattr("beam_tfscript.runtime.writing.features._KEPT_HEADERS", 10)
    heads = HeadersByLength(lambda size: bytes([size % 256]))
    assert [heads[size] for size in range(100)] == [bytes([size]) for size in range(100)]
    assert len(heads) <= 10

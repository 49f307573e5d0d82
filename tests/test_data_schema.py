"""Schema texts, and schemas to and from Arrow, TensorFlow Metadata and feature_spec."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from tensorflow_metadata.proto.v0 import schema_pb2

from beam_tfscript.data.column import Column
from beam_tfscript.data.schema import Schema
from beam_tfscript.data.schema_features import (
    schema_from_feature_spec,
    schema_from_metadata,
    schema_to_feature_spec,
    schema_to_metadata,
)
from beam_tfscript.errors import SchemaError
from tests.strategies import schemas


def column(text: str) -> Column:
    (only,) = Schema.parse(text).columns
    return only


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("x LONG", "x bigint"),
        ("x int64", "x bigint"),
        ("x Integer", "x int"),
        ("x short", "x smallint"),
        ("x byte", "x tinyint"),
        ("x real", "x float"),
        ("x double precision", "x double"),
        ("x Double Exact", "x float64"),
        ("x FLOAT64", "x float64"),
        ("x bool", "x boolean"),
        ("x varchar", "x string"),
        ("x text", "x string"),
        ("x varchar(10)", "x varchar(10)"),
        ("x char", "x char(1)"),
        ("x character(3)", "x char(3)"),
        ("x bytes", "x varbinary"),
        ("x blob", "x varbinary"),
        ("x binary(16)", "x binary(16)"),
        ("x numeric(10, 2)", "x decimal(10, 2)"),
        ("x decimal(10)", "x decimal(10, 0)"),
        ("x timestamp", "x timestamp"),
        ("x timestamp(3)", "x timestamp(ms)"),
        ("x TIMESTAMP(NS)", "x timestamp(ns)"),
        ("x timestamp(us)", "x timestamp"),
        ("x time(0)", "x time(s)"),
        ("x ARRAY<Long> NOT NULL", "x array<bigint> not null"),
        ("x array< array < double exact > >", "x array<array<float64>>"),
        ("x tensor<float>(28,28)", "x tensor<float>(28, 28)"),
        ("x vector(3)", "x tensor<float>(3)"),
        ("x int null", "x int"),
        ("`a b` int,\n  `c``d` string,", "`a b` int, `c``d` string"),
        ("Größe float", "Größe float"),
        ("x bigint default -1", "x bigint default -1"),
        ("x float default 1e3", "x float default 1000.0"),
        ("x double exact default -inf", "x float64 default -inf"),
        ("x boolean DEFAULT True", "x boolean default true"),
        ("x string default 'it''s'", "x string default 'it''s'"),
        ("x varbinary default 'é'", "x varbinary default 'é'"),
        ("x date default '2024-02-29'", "x date default '2024-02-29'"),
        ("x decimal(5, 2) default 1.5", "x decimal(5, 2) default 1.5"),
        ("not int, null string, default float", "not int, null string, default float"),
    ],
)
def test_reads_types_in_all_their_spellings(text, canonical):
    assert str(Schema.parse(text)) == canonical
    assert str(Schema.parse(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", 0, "expected a column name"),
        ("id", 2, "expected a type, such as string"),
        ("id strng", 3, "Did you mean 'string'"),
        ("id string x float", 10, "expected ','"),
        ("id string,, x float", 10, "expected a column name"),
        ("id string not", 13, "expected 'null' after 'not'"),
        ("id string not null null", 19, "'null' comes after another such option"),
        ("x decimal", 9, "expected '('"),
        ("x decimal(77, 0)", 9, "1 to 76"),
        ("x decimal(3, 4)", 9, "digits after the point"),
        ("x timestamp(5)", 12, "expected a unit"),
        ("x time(ns)", 7, "no nanoseconds"),
        ("x array<int", 11, "expected '>'"),
        ("x array<array<array<int>>>", 14, "arrays nest two deep"),
        ("x tensor<array<int>>(2)", 9, "'array' is not allowed here"),
        ("x tensor<float>(2, 0)", 19, "a whole number of at least 1"),
        ("x tensor<float>(2", 17, "expected ')'"),
        ("x vector", 8, "expected '('"),
        ("x bigint default 1.5", 17, "expected a default for bigint, such as 0"),
        ("x boolean default 1", 18, "such as true"),
        ("x tinyint default 300", 18, "out of range"),
        ("x char(2) default 'abc'", 18, "exactly 2 characters"),
        ("x date default '2024-02-30'", 15, "such as '2024-01-31'"),
        ("x array<int> default 1", 21, "cannot have a default"),
        ("x int not null default 1", 24, "either a default or 'not null'"),
        ("1x int", 0, "expected a column name"),
        ("x int; y int", 5, "expected ','"),
        ("a int,\nb itn,\nc int", 9, "Did you mean 'int'"),
    ],
)
def test_points_at_the_place_where_the_text_goes_wrong(text, place, expected):
    with pytest.raises(SchemaError) as caught:
        Schema.parse(text)
    message, line, caret = str(caught.value).rsplit("\n", 2)
    assert expected in message
    start = text.rfind("\n", 0, place) + 1
    assert line == "    " + text[start:].split("\n")[0]
    assert caret == " " * (4 + place - start) + "^"


def test_cuts_a_long_text_around_the_place():
    text = ", ".join(f"c{i} int" for i in range(300)) + ", last itn, " + ", ".join(f"d{i} int" for i in range(300))
    with pytest.raises(SchemaError) as caught:
        Schema.parse(text)
    _, line, caret = str(caught.value).rsplit("\n", 2)
    assert line[caret.index("^") :].startswith("itn") and len(line) < 120


@pytest.mark.parametrize("text", [None, 3, ["id string"]])
def test_rejects_what_is_not_a_text(text):
    with pytest.raises(SchemaError, match="must be a text"):
        Schema.parse(text)


def test_rejects_two_columns_of_one_name():
    with pytest.raises(SchemaError, match="'a' comes twice"):
        Schema.parse("a int, b int, a int")


def test_rejects_a_name_that_an_array_of_arrays_needs():
    with pytest.raises(SchemaError, match="Rename one"):
        Schema.parse("a array<array<int>>, a__row_lengths int")


def test_rejects_a_schema_without_columns():
    with pytest.raises(SchemaError, match="at least one column"):
        Schema(())


def test_selects_and_orders_columns():
    assert str(Schema.parse("a int, b string, c float").select(["c", "a"])) == "c float, a int"


@pytest.mark.parametrize(
    ("name", "near"), [("scor", "'score'"), ("SCORE", "'score'"), ("zzz", "there are 'id', 'score'")]
)
def test_names_the_near_columns_of_an_unknown_one(name, near):
    with pytest.raises(SchemaError, match=f"no column {name!r}.*{near}"):
        Schema.parse("id string, score float").select([name])


def test_rejects_a_column_selected_twice():
    with pytest.raises(SchemaError, match="comes twice"):
        Schema.parse("a int, b int").select(["a", "a"])


def test_a_column_knows_its_wire_form():
    assert column("x array<array<timestamp(ms)>> not null").to_wire() == {
        "name": "x",
        "type": "array<array<timestamp(ms)>>",
        "kind": "timestamp",
        "feature": "int64",
        "dtype": "int64",
        "shape": [None, None],
        "unit": "ms",
        "row_lengths": "x__row_lengths",
        "nullable": False,
        "default": None,
    }


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("x smallint default 7", 7),
        ("x boolean default true", True),
        ("x varbinary default 'é'", "é"),
        ("x date default '1970-02-01'", 31),
        ("x time(ms) default '00:00:01.5'", 1500),
        ("x timestamp(s) default '1970-01-01T01:00:00+01:00'", 0),
        ("x timestamp(ns) default '1970-01-01T00:00:01Z'", 10**9),
        ("x decimal(40, 9) default 0.000000001", "0.000000001"),
        (
            "x decimal(60, 2) default 12345678901234567890123456789012345678.5",
            "12345678901234567890123456789012345678.50",
        ),
    ],
)
def test_a_default_travels_in_the_form_of_the_example(text, default):
    assert column(text).to_wire()["default"] == default


@given(schemas())
def test_survives_text_arrow_metadata_and_pickle(schema):
    assert Schema.parse(str(schema)) == schema
    assert Schema.from_arrow(schema.to_arrow()) == schema
    assert schema_from_metadata(schema_to_metadata(schema)) == schema
    assert pickle.loads(pickle.dumps(schema)) == schema


@pytest.mark.parametrize(
    ("arrow", "text"),
    [
        (pa.string(), "x string"),
        (pa.string_view(), "x string"),
        (pa.dictionary(pa.int32(), pa.string()), "x string"),
        (pa.binary(4), "x binary(4)"),
        (pa.uint8(), "x uint8"),
        (pa.list_(pa.uint32()), "x array<uint32>"),
        (pa.float16(), "x float"),
        (pa.date64(), "x date"),
        (pa.time64("ns"), "x time"),
        (pa.time32("s"), "x time(s)"),
        (pa.timestamp("ns"), "x timestamp(ns)"),
        (pa.decimal256(50, 3), "x decimal(50, 3)"),
        (pa.list_(pa.int8()), "x array<tinyint>"),
        (pa.large_list(pa.list_(pa.string())), "x array<array<string>>"),
        (pa.list_(pa.list_(pa.float32(), 3), 2), "x tensor<float>(2, 3)"),
        (pa.fixed_shape_tensor(pa.float64(), (2, 3)), "x tensor<double>(2, 3)"),
    ],
)
def test_finds_the_column_of_an_arrow_type(arrow, text):
    assert str(Schema.from_arrow(pa.schema([("x", arrow)]))) == text


@pytest.mark.parametrize(
    "arrow",
    [
        pa.null(),
        pa.uint64(),
        pa.duration("s"),
        pa.struct([("a", pa.int8())]),
        pa.map_(pa.string(), pa.int8()),
        pa.list_(pa.list_(pa.list_(pa.int8()))),
        pa.list_(pa.list_(pa.int8(), 3)),
        pa.decimal128(5, -2),
    ],
)
def test_rejects_an_arrow_type_without_counterpart(arrow):
    with pytest.raises(SchemaError, match="Column 'x' has the Arrow type .* no counterpart"):
        Schema.from_arrow(pa.schema([("x", arrow)]))


def test_metadata_of_others_are_read():
    metadata = schema_pb2.Schema()
    metadata.feature.add(name="id", type=schema_pb2.BYTES).shape.SetInParent()
    small = metadata.feature.add(name="small", type=schema_pb2.INT)
    small.value_count.min = small.value_count.max = 1
    small.int_domain.min, small.int_domain.max = -128, 127
    small.presence.min_fraction = 1.0
    metadata.feature.add(name="flag", type=schema_pb2.INT).bool_domain.SetInParent()
    image = metadata.feature.add(name="image", type=schema_pb2.FLOAT)
    image.shape.dim.add(size=28)
    image.shape.dim.add(size=28)
    text = "id string, small tinyint not null, flag array<boolean>, image tensor<float>(28, 28)"
    assert str(schema_from_metadata(metadata)) == text


def test_rejects_metadata_of_other_types():
    metadata = schema_pb2.Schema()
    metadata.feature.add(name="s", type=schema_pb2.STRUCT)
    with pytest.raises(SchemaError, match="neither INT, FLOAT nor BYTES"):
        schema_from_metadata(metadata)


SPEC_TEXT = (
    "id string not null, n bigint default 3, x float not null, tags array<string>, t tensor<float>(2, 3) not null,"
    " r array<array<bigint>>"
)


def test_survives_feature_spec():
    schema = Schema.parse(SPEC_TEXT)
    assert schema_from_feature_spec(schema_to_feature_spec(schema)) == schema


def test_rejects_a_feature_spec_without_counterpart():
    import tensorflow as tf

    with pytest.raises(SchemaError, match="Feature 'x' of the feature_spec"):
        schema_from_feature_spec({"x": tf.io.SparseFeature("i", "v", tf.int64, 3)})
    with pytest.raises(SchemaError, match="Feature 'x' of the feature_spec"):
        schema_from_feature_spec({"x": tf.io.FixedLenFeature([], tf.float64)})


def test_loads_neither_beam_nor_tensorflow():
    code = (
        "import sys; import beam_tfscript.data.align, beam_tfscript.data.examples, beam_tfscript.data.tfrecord,"
        " beam_tfscript.data.schema_features; sys.exit('apache_beam' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

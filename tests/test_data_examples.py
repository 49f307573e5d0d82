"""Examples: exact both ways, readable by TensorFlow, and with errors that name a script's mistakes."""

from __future__ import annotations

import pickle
import re
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_tfscript.data.examples import ExampleDecoder, ExampleEncoder
from beam_tfscript.data.features import Rounding
from beam_tfscript.data.rows import record_batch_to_tuples, rows_to_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import OutputError, RowError
from tests.strategies import canonical, canonical_rows, schemas_and_rows

OUTPUT = Schema.parse("id string not null, score float")
GOOD = {"id": b"a", "score": 0.5}


def example(**features) -> bytes:
    """An Example as a script would build it: None is an empty Feature, (kind,) an empty list of that kind."""
    import tensorflow as tf

    message = tf.train.Example()
    for name, value in features.items():
        feature = message.features.feature[name]
        feature.SetInParent()
        if value is None:
            continue
        if isinstance(value, tuple):
            getattr(feature, value[0]).SetInParent()
            continue
        values = value if isinstance(value, list) else [value]
        kinds = {bytes: feature.bytes_list, float: feature.float_list, int: feature.int64_list}
        kinds[type(values[0])].value.extend(values)
    return message.SerializeToString()


def encode(text: str, *rows: dict) -> list[bytes]:
    return ExampleEncoder(Schema.parse(text)).encode_rows(rows)


def decode(text: str, *examples: bytes, **options) -> list[tuple]:
    schema = Schema.parse(text)
    batch = ExampleDecoder(schema, **options).decode(list(examples))
    assert batch.schema.equals(schema.to_arrow())
    return record_batch_to_tuples(batch, schema)


@given(schemas_and_rows())
def test_every_value_comes_back(case):
    schema, rows = case
    batch = rows_to_record_batch(rows, schema)
    examples = ExampleEncoder(schema).encode(batch)
    assert len(examples) == len(rows)
    for decoder in (ExampleDecoder(schema), ExampleDecoder.for_input(schema)):
        decoded = decoder.decode(examples)
        assert decoded.schema.equals(batch.schema)
        assert canonical_rows(decoded, schema) == [
            [canonical(row[column.name], column) for column in schema] for row in rows
        ]


@given(schemas_and_rows(max_columns=3), st.integers(0, 8), st.integers(0, 8))
def test_slices_are_encoded_as_they_are(case, start, length):
    schema, rows = case
    batch = rows_to_record_batch(rows, schema)
    encoder, decoder = ExampleEncoder(schema), ExampleDecoder(schema)
    part = decoder.decode(encoder.encode(batch.slice(start, length)))
    assert canonical_rows(part, schema) == canonical_rows(batch, schema)[start : start + length]


def feature_of(serialized: bytes, name: str = "x"):
    import tensorflow as tf

    return tf.train.Example.FromString(serialized).features.feature[name]


@pytest.mark.parametrize(
    ("type_text", "value", "kind", "held"),
    [
        ("tinyint", -1, "int64_list", [-1]),
        ("boolean", True, "int64_list", [1]),
        ("float", 0.5, "float_list", [0.5]),
        ("double", 0.1, "float_list", [float(np.float32(0.1))]),
        ("float64", 0.1, "int64_list", list(struct.unpack("<q", struct.pack("<d", 0.1)))),
        ("string", "é", "bytes_list", ["é".encode()]),
        ("varbinary", b"\xff", "bytes_list", [b"\xff"]),
        ("date", np.datetime64("1969-12-31"), "int64_list", [-1]),
        ("time(ms)", np.datetime64("1970-01-01T00:00:01").item().time(), "int64_list", [1000]),
        ("timestamp(s)", np.datetime64("1970-01-01T00:01"), "int64_list", [60]),
        ("decimal(10, 8)", 0, "bytes_list", [b"0.00000000"]),
        ("array<int>", [], "int64_list", []),
        ("tensor<float>(2, 2)", [[1, 2], [3, 4]], "float_list", [1, 2, 3, 4]),
    ],
)
def test_each_type_has_its_documented_encoding(type_text, value, kind, held):
    (serialized,) = encode(f"x {type_text}", {"x": value})
    feature = feature_of(serialized)
    assert feature.WhichOneof("kind") == kind
    assert list(getattr(feature, kind).value) == held


def test_small_decimals_are_written_without_an_exponent():
    from decimal import Decimal

    (serialized,) = encode("x decimal(10, 8)", {"x": Decimal("-0.00000001")})
    assert feature_of(serialized).bytes_list.value == [b"-0.00000001"]


def test_null_is_a_feature_without_a_list():
    import tensorflow as tf

    for type_text in ("int", "array<int>", "vector(3)", "array<array<string>>"):
        (serialized,) = encode(f"x {type_text}", {"x": None})
        message = tf.train.Example.FromString(serialized)
        assert "x" in message.features.feature and feature_of(serialized).WhichOneof("kind") is None


def test_an_array_of_arrays_has_its_inner_lengths_beside_it():
    (serialized,) = encode("x array<array<int>>", {"x": [[1, 2], [], [3]]})
    assert feature_of(serialized).int64_list.value == [1, 2, 3]
    assert feature_of(serialized, "x__row_lengths").int64_list.value == [2, 0, 1]


def test_tensorflow_parses_the_examples_by_the_feature_spec():
    import tensorflow as tf

    from beam_tfscript.data.schema_features import schema_to_feature_spec

    text = "id string not null, n bigint default 7, t tensor<float>(2, 2) not null, y array<float>"
    schema = Schema.parse(text)
    examples = encode(
        text, {"id": "a", "n": None, "t": np.eye(2), "y": [1, 2]}, {"id": "b", "n": 1, "t": np.eye(2), "y": []}
    )
    parsed = tf.io.parse_example(examples, schema_to_feature_spec(schema))
    assert parsed["n"].numpy().tolist() == [7, 1]
    assert parsed["t"].numpy().tolist() == [np.eye(2).tolist()] * 2
    assert parsed["y"].values.numpy().tolist() == [1, 2]


def test_counts_the_doubles_that_change():
    encoder = ExampleEncoder(Schema.parse("x double, y array<double>, z float64"))
    nan = float("nan")
    encoder.encode_rows([{"x": 0.1, "y": [0.5, 0.1, nan], "z": 0.1}, {"x": None, "y": [1e300, float("inf")], "z": 0.1}])
    x = Rounding(rounded=1, infinite=0, example=0.1, overflow=None)
    assert encoder.roundings == {"x": x, "y": Rounding(rounded=2, infinite=1, example=0.1, overflow=1e300)}
    encoder.encode_rows([{"x": 0.1, "y": None, "z": None}])
    assert encoder.roundings == {"x": x}
    encoder.encode_rows([{"x": float("inf"), "y": [float("-inf"), nan], "z": 1e300}])
    assert encoder.roundings == {}


def test_accepts_what_a_script_may_write_otherwise():
    assert decode("x array<int>", example(x=("int64_list",)), example(x=None)) == [([],), (None,)]
    assert decode("x decimal(4, 2)", example(x=b"1.5"), example(x=b"-2"))[0][0] == 1.5
    # A map entry whose value is left out is an empty Feature, too.
    assert decode("x int", b"\n\x05\n\x03\n\x01x") == [(None,)]


# Features of an Example, or bytes.
BAD = [
    (
        {"id": b"a", "scor": 0.5},
        "score",
        "the feature 'score' is missing; the Example has 'id', 'scor'. Did you mean 'scor'?",
    ),
    ({"id": b"a"}, "score", "the feature 'score' is missing; the Example has 'id'."),
    (b"", "id", "the Example has no features"),
    ({**GOOD, "scroe": 1.0}, None, "the feature 'scroe' is no column of the schema. Did you mean 'score'?"),
    ({**GOOD, "zzz": None}, None, "the feature 'zzz' is no column of the schema; there are 'id', 'score'."),
    ({"id": b"a", "score": 1}, "score", "expected values in float_list, found int64_list"),
    ({"id": b"a", "score": ("bytes_list",)}, "score", "expected values in float_list, found bytes_list"),
    ({"id": b"a", "score": [0.5, 1.5]}, "score", "the feature has 2 values, and a scalar has exactly 1"),
    ({"id": b"a", "score": ("float_list",)}, "score", "the feature has 0 values, and a scalar has exactly 1"),
    ({"id": None, "score": 0.5}, "id", "the column is `not null`"),
    ({"id": b"\xff", "score": 0.5}, "id", "the bytes are not UTF-8"),
    (b"not an example", None, "the bytes are not a serialized tf.train.Example"),
]


@pytest.mark.parametrize(("bad", "column", "words"), BAD, ids=[words for _, _, words in BAD])
@pytest.mark.parametrize("before", [0, 1, 6])
def test_names_the_example_and_column_that_do_not_fit(bad, column, words, before):
    good = example(**GOOD)
    bad = bad if isinstance(bad, bytes) else example(**bad)
    with pytest.raises(OutputError, match=re.escape(words)) as caught:
        ExampleDecoder(OUTPUT).decode([good] * before + [bad, good, bad])
    assert (caught.value.index, caught.value.column) == (before, column)
    assert str(caught.value).startswith(f"Example #{before}")


@pytest.mark.parametrize(
    ("type_text", "features", "words"),
    [
        ("tinyint", {"x": 128}, "128 is out of range for tinyint (-128 to 127)"),
        ("boolean", {"x": 2}, "2 is out of range for boolean (0 to 1)"),
        ("date", {"x": 10**7}, "out of range for date"),
        ("time(s)", {"x": 86400}, "86400 is out of range for time(s) (0 to 86399)"),
        ("decimal(4, 2)", {"x": b"1.555"}, "does not fit decimal(4, 2) exactly"),
        ("decimal(4, 2)", {"x": b"abc"}, "does not fit decimal(4, 2) exactly"),
        ("char(2)", {"x": b"abc"}, "a value has 3 characters, and char(2) has exactly 2"),
        ("varbinary(2)", {"x": b"abc"}, "a value has 3 bytes, and varbinary(2) has at most 2"),
        ("tensor<int>(2, 2)", {"x": [1, 2, 3]}, "the feature has 3 values, and shape (2, 2) has exactly 4"),
        ("array<tinyint>", {"x": [1, 300]}, "300 is out of range for tinyint"),
        ("array<array<int>>", {"x": [1, 2], "x__row_lengths": [1]}, "do not add up"),
        ("array<array<int>>", {"x": [1, 2], "x__row_lengths": [3, -1]}, "do not add up"),
        ("array<array<int>>", {"x": [1], "x__row_lengths": None}, "is empty and the other is not"),
        ("array<array<int>>", {"x": [1]}, "the feature 'x__row_lengths' is missing"),
        ("array<array<int>>", {"x": [1], "x__row_lengths": 1.0}, "expected values in int64_list, found float_list"),
    ],
)
def test_rejects_features_that_do_not_fit_the_type(type_text, features, words):
    with pytest.raises(OutputError, match=re.escape(words)) as caught:
        decode(f"x {type_text}", example(**features))
    assert caught.value.column == "x"


def test_names_the_first_example_where_kinds_are_mixed():
    examples = [example(x=1), example(x=1), example(x=0.5), example(x=1)]
    with pytest.raises(OutputError, match="Example #2, column 'x'"):
        decode("x bigint", *examples)


def test_tells_null_from_a_feature_that_is_not_there():
    text = "a varbinary, b int, c array<array<int>>"
    null = example(a=None, b=None, c=None, c__row_lengths=None)
    assert decode(text, null, null) == [(None, None, None)] * 2
    for missing in ("a", "b", "c", "c__row_lengths"):
        features = dict.fromkeys({"a", "b", "c", "c__row_lengths"} - {missing})
        with pytest.raises(OutputError, match=f"Example #1, .*the feature '{missing}' is missing"):
            decode(text, null, example(**features), null)


def test_is_not_deceived_by_a_null_that_is_spelled_in_a_value():
    inner = example(b=None)
    assert decode("a varbinary, b int", example(a=inner, b=None)) == [(inner, None)]
    with pytest.raises(OutputError, match="Example #1, column 'b'.*'b' is missing"):
        decode("a varbinary, b int", example(a=b"", b=1), example(a=inner))


def test_input_may_lack_features_and_have_others():
    decoder = ExampleDecoder.for_input(Schema.parse("id string not null, score float"))
    batch = decoder.decode([example(id=b"a", other=1), example(id=b"b", other=b"x", score=0.5)])
    assert batch.to_pydict() == {"id": ["a", "b"], "score": [None, 0.5]}
    with pytest.raises(RowError, match="Example #1, column 'id'.*not null"):
        decoder.decode([example(id=b"a"), example(score=0.5)])
    with pytest.raises(RowError, match="Example #0, column 'score'.*expected values in float_list, found int64_list"):
        decoder.decode([example(id=b"a", score=1)])


def test_a_failed_batch_leaves_nothing_in_the_next_one():
    decoder = ExampleDecoder.for_input(OUTPUT)
    good, wrong = example(**GOOD), example(id=b"b", score=1)
    for _ in range(3):
        batch, errors = decoder.decode_good([good, wrong, good, b"junk", good])
        assert batch.num_rows == 3 and len(errors) == 2
        assert decoder.decode([good]).to_pylist() == [{"id": "a", "score": 0.5}]


def test_no_examples_make_an_empty_batch():
    batch = ExampleDecoder(OUTPUT).decode([])
    assert batch.num_rows == 0 and batch.schema.equals(OUTPUT.to_arrow())
    assert ExampleEncoder(OUTPUT).encode(batch) == []


@pytest.mark.parametrize("bad", [bad for bad, _, _ in BAD], ids=[words for _, _, words in BAD])
def test_decodes_the_good_and_hands_back_the_bad(bad):
    bad = bad if isinstance(bad, bytes) else example(**bad)
    examples = [example(id=str(n).encode(), score=None if n % 3 else float(n)) for n in range(20)]
    mixed = examples[:7] + [bad] + examples[7:] + [bad]
    batch, errors = ExampleDecoder(OUTPUT).decode_good(mixed)
    assert batch.equals(ExampleDecoder(OUTPUT).decode(examples))
    assert [(found, error.index) for found, error in errors] == [(bad, 7), (bad, 21)]
    assert all(isinstance(error, OutputError) for _, error in errors)


def test_many_bad_examples_are_found_in_little_time():
    examples = [example(id=b"a", scor=0.5)] * 4096
    start = time.perf_counter()
    with pytest.raises(OutputError, match="Example #0"):
        ExampleDecoder(OUTPUT).decode(examples)
    assert time.perf_counter() - start < 1
    _, errors = ExampleDecoder(OUTPUT).decode_good(examples)
    assert len(errors) == len(examples)
    assert time.perf_counter() - start < 10


def test_errors_survive_pickling():
    with pytest.raises(OutputError) as caught:
        ExampleDecoder(OUTPUT).decode([b""])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.index, copy.column) == (str(caught.value), 0, "id")
    assert str(pickle.loads(pickle.dumps(caught.value.__cause__))) in str(copy)


def test_coders_survive_pickling():
    encoder, decoder = (pickle.loads(pickle.dumps(one)) for one in (ExampleEncoder(OUTPUT), ExampleDecoder(OUTPUT)))
    examples = encoder.encode_rows([{"id": "a", "score": 0.5}])
    assert decoder.decode(examples).to_pylist() == [{"id": "a", "score": 0.5}]

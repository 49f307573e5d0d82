"""Unsigned integers and images of bytes: from numpy, Arrow and Beam rows through a script and back."""

from __future__ import annotations

import typing

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.data.align import align_record_batch
from beam_tfscript.data.examples import ExampleDecoder, ExampleEncoder
from beam_tfscript.data.rows import record_batch_to_tuples, rows_to_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.data.schema_features import schema_from_metadata, schema_to_metadata
from beam_tfscript.dofns.beam_types import row_hint, schema_of
from beam_tfscript.errors import OutputError, RowError, SchemaError
from tests.test_run_batch import by_id

pytestmark = pytest.mark.tensorflow

IMAGES = np.arange(5 * 4 * 3 * 3, dtype=np.uint8).reshape(5, 4, 3, 3)
SCHEMA = (
    "id string, image tensor<uint8>(4, 3, 3), raw array<uint8>, a uint8, b uint16 default 7, c uint32, d array<uint32>"
)
# Gives back what it reads, and fails where a dtype is not the column's.
SCRIPT = """
import numpy as np
import tensorflow as tf

def main(config):
    dataset = config.dataset(2, masks=True)
    for batch, tensors in zip(config.batches(2, masks=True), dataset):
        for name, dtype in (("image", "uint8"), ("raw", "uint8"), ("a", "uint8"), ("b", "uint16"), ("c", "uint32")):
            array = batch[name][0] if name == "raw" else batch[name]
            assert array.dtype == dtype and tensors[name].dtype == dtype, (name, array.dtype, tensors[name].dtype)
            flat = tensors[name].to_list() if name == "raw" else tensors[name].numpy().tolist()
            assert flat == [row.tolist() for row in batch[name]], name
        assert tensors["image"].shape == batch["image"].shape and batch["image"].flags.writeable
        config.write_batch(**batch)
"""


class Pixel(typing.NamedTuple):
    id: str
    x: np.uint8
    y: typing.Optional[np.uint16]  # noqa: UP045
    z: typing.Sequence[np.uint32]


def test_images_and_numbers_come_back_through_a_script(in_memory, tmp_path):
    (tmp_path / "echo.py").write_text(SCRIPT)
    rows = [
        {"id": str(i), "image": image, "raw": image[0, 0, :i], "a": np.uint8(255), "b": 65535, "c": 2**32 - 1, "d": [i]}
        for i, image in enumerate(IMAGES)
    ]
    rows.append({"id": "null"} | dict.fromkeys(["image", "raw", "a", "b", "c", "d"]))
    got = by_id(in_memory.run(RunTFScript(str(tmp_path / "echo.py"), SCHEMA, input_schema=SCHEMA), rows))
    for row, one in zip(got, rows):
        assert row["id"] == one["id"] and row["d"] == one["d"]
        if one["image"] is None:
            assert [row[name] for name in ("image", "raw", "a", "b", "c")] == [None, None, None, 7, None]
            continue
        assert row["image"].dtype == np.uint8 and (row["image"] == one["image"]).all()
        assert row["raw"] == one["raw"].tolist() and type(row["a"]) is int
        assert (row["a"], row["b"], row["c"]) == (255, 65535, 2**32 - 1)


def test_an_image_is_one_value_of_bytes():
    from tensorflow.core.example.example_pb2 import Example

    schema = Schema.parse("image tensor<uint8>(4, 3, 3), raw array<uint8>, layers array<array<uint8>>")
    batch = rows_to_record_batch([{"image": IMAGES[1], "raw": [255, 0], "layers": [[1], []]}], schema)
    (serialized,) = ExampleEncoder(schema).encode(batch.slice(0))
    features = Example.FromString(serialized).features.feature
    assert list(features["image"].bytes_list.value) == [IMAGES[1].tobytes()]
    assert list(features["raw"].bytes_list.value) == [b"\xff\0"]
    assert list(features["layers"].int64_list.value) == [1]
    assert schema_from_metadata(schema_to_metadata(schema)) == Schema.parse(
        "image tensor<uint8>(4, 3, 3), raw array<uint8>, layers array<array<uint8>>"
    )


@pytest.mark.parametrize(
    ("value", "type_text", "words"),
    [
        (256, "uint8", "256 is out of range for uint8 (0 to 255)"),
        (-1, "uint8", "-1 is out of range for uint8 (0 to 255)"),
        (65536, "uint16", "out of range for uint16 (0 to 65535)"),
        (np.int64(-1), "uint32", "out of range for uint32 (0 to 4294967295)"),
        (1.0, "uint8", "is a float where int is expected"),
        (np.array([0, 256]), "array<uint8>", "has an element that is out of range for uint8 (0 to 255)"),
        (np.array([0, -1], np.int8), "tensor<uint8>(2)", "has an element that is out of range for uint8"),
        (IMAGES[0], "tensor<uint8>(3, 4, 3)", "does not have the shape (3, 4, 3), but (4, 3, 3)"),
    ],
)
def test_rows_out_of_range_are_refused(value, type_text, words):
    with pytest.raises(RowError) as caught:
        rows_to_record_batch([{"x": value}], Schema.parse(f"x {type_text}"))
    assert words in str(caught.value)


def test_outputs_of_the_wrong_size_are_refused():
    wrong = ExampleEncoder(Schema.parse("x varbinary")).encode_rows([{"x": b"abc"}, {"x": b"ab"}])
    with pytest.raises(OutputError, match=r"Example #1, column 'x'.*2 bytes, and shape \(3,\) has exactly 3"):
        ExampleDecoder(Schema.parse("x tensor<uint8>(3)")).decode(wrong)
    large = ExampleEncoder(Schema.parse("x bigint")).encode_rows([{"x": 256}])
    with pytest.raises(OutputError, match=r"256 is out of range for uint8 \(0 to 255\)"):
        ExampleDecoder(Schema.parse("x uint8")).decode(large)


def test_arrow_images_are_taken_as_they_are():
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES)
    table = pa.table({"image": tensors, "n": pa.array([0, 1, 2, 3, 255])})
    schema = Schema.from_arrow(table.schema)
    assert str(schema) == "image tensor<uint8>(4, 3, 3), n bigint"
    schema = Schema.parse("image tensor<uint8>(4, 3, 3), n uint8")
    batch = align_record_batch(table, schema).slice(1, 3)
    decoded = ExampleDecoder(schema).decode(ExampleEncoder(schema).encode(batch))
    found = record_batch_to_tuples(decoded, schema)
    assert np.array_equal([image for image, _ in found], IMAGES[1:4]) and [n for _, n in found] == [1, 2, 3]
    with pytest.raises(RowError, match="256 does not fit uint8 exactly"):
        align_record_batch(pa.table({"n": [256]}), Schema.parse("n uint8"))
    with pytest.raises(SchemaError, match="uint64"):
        Schema.from_arrow(pa.schema([("x", pa.uint64())]))


def test_beam_rows_with_numpys_types_need_no_input_schema():
    assert str(schema_of(Pixel)) == "id string not null, x uint8 not null, y uint16, z array<uint32> not null"
    beam.coders.registry.register_coder(Pixel, beam.coders.RowCoder)
    assert str(schema_of(Pixel)) == "id string not null, x uint8 not null, y uint16, z array<uint32> not null"
    inferred = beam.Pipeline() | beam.Create([1]) | beam.Map(lambda n: beam.Row(id="a", x=np.uint8(n), f=0.5))
    assert str(schema_of(inferred.element_type)) == "id string not null, x uint8 not null, f double not null"
    schema = Schema.parse("x uint8 not null, y array<uint16>, z tensor<uint8>(2, 2)")
    assert schema_of(row_hint(schema)) == schema

"""Checks of the runtime's writing on each interpreter; runtime_checks.py runs them. Python 3.6 syntax."""

import tensorflow as tf
from runtime_cases import as_lists, assert_raises, column, example, make_tensors, save

from beam_tfscript.runtime.columns import OutputMismatch, columns_from_wire
from beam_tfscript.runtime.reading import reader
from beam_tfscript.runtime.writing.encode import ExampleEncoder


def check_integers_padded_to_one_width_are_read_by_every_parser():
    columns = columns_from_wire([column("x", "bigint"), column("y", "bigint", (2,))])
    values = [0, 1, 127, 128, 2**31, 2**62, 2**63 - 1, -1]
    records = ExampleEncoder(columns).encode_batch({"x": values, "y": [[value, 3] for value in values]})
    assert len(set(map(len, records))) == 1
    messages = [tf.train.Example.FromString(record) for record in records]
    assert [message.features.feature["x"].int64_list.value[0] for message in messages] == values
    spec = reader.feature_spec(columns)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        batch = session.run(tf.io.parse_example(records, spec))
        singles = [session.run(tf.io.parse_single_example(record, spec)) for record in records]
    assert batch["x"].tolist() == [single["x"] for single in singles] == values
    assert batch["y"].tolist() == [single["y"].tolist() for single in singles] == [[value, 3] for value in values]


def check_tensors_and_ragged_tensors_are_written():
    columns = columns_from_wire([
        column("s", "float"), column("t", "string"), column("a", "string", (None,)), column("n", "float", (None, None)),
    ])  # fmt: skip
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = session.run(make_tensors())
    expected = {"s": [1.0, 2.0], "t": [b"x", b"y"], "a": [[b"a", b"b"], []], "n": [[[1.0], []], [[2.0, 3.0]]]}
    for tensors in [made, make_tensors()] if tf.executing_eagerly() else [made]:
        (batch,) = reader.numpy_batches(save(ExampleEncoder(columns).encode_batch(tensors)), columns, 8)
        assert {name: as_lists(value) for name, value in batch.items()} == expected


def check_tensors_without_values_are_refused():
    columns = columns_from_wire([column("x", "float")])
    with tf.Graph().as_default():
        tensor = tf.constant([1.0])
        sparse = tf.sparse.from_dense(tensor)
        assert_raises(OutputMismatch, ['"x"', "session.run"], ExampleEncoder(columns).encode_batch, {"x": tensor})
        assert_raises(OutputMismatch, ['"x"', "RaggedTensor"], ExampleEncoder(columns).encode_batch, {"x": sparse})


def check_messages_are_checked():
    columns = columns_from_wire([column("x", "bigint"), column("a", "float", (None,), nullable=True)])
    encode = ExampleEncoder(columns).encode_example
    good = example(x=[1], a=[1.0, 2.0])
    assert tf.train.Example.FromString(encode(good)) == good
    assert encode(good.SerializeToString()) == good.SerializeToString()
    encode(example(x=[1], a=None))
    assert_raises(OutputMismatch, "missing: x", encode, example(a=[1.0]))
    assert_raises(OutputMismatch, "unknown: y", encode, example(x=[1], a=[1.0], y=[1]))
    assert_raises(OutputMismatch, ['"x"', "int64_list", "float_list"], encode, example(x=[1.0], a=None))
    assert_raises(OutputMismatch, ['"x"', "got 2"], encode, example(x=[1, 2], a=None))
    assert_raises(OutputMismatch, ['"x"', "null"], encode, example(x=None, a=None))
    assert_raises(OutputMismatch, "tf.train.Example", encode, {"x": 1})

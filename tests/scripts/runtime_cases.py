"""Columns of each type with rows, and helper functions for the runtime's checks. Python 3.6 syntax."""

import datetime
import os
import tempfile

import numpy as np
import tensorflow as tf

from beam_tfscript.runtime.columns import columns_from_wire

# Removed after the checks.
FOLDER = tempfile.mkdtemp()

_KINDS = {
    "uint8": ("int64", "uint8"), "uint16": ("int64", "uint16"), "uint32": ("int64", "uint32"),
    "smallint": ("int64", "int16"), "bigint": ("int64", "int64"), "float": ("float", "float32"),
    "double": ("float", "float32"), "float64": ("int64", "float64"), "boolean": ("int64", "bool"),
    "string": ("bytes", "bytes"), "varbinary": ("bytes", "bytes"), "date": ("int64", "int32"),
    "time": ("int64", "int64"), "timestamp": ("int64", "int64"), "decimal": ("bytes", "bytes"),
}  # fmt: skip


def column(name, kind, shape=(), nullable=False, default=None, type=None):
    feature, dtype = _KINDS[kind]
    if kind == "uint8" and shape not in ((), (None, None)):
        feature = "bytes"
    return {
        "name": name, "type": type or kind, "kind": kind, "feature": feature, "dtype": dtype, "shape": list(shape),
        "unit": "us" if kind in ("time", "timestamp") else None, "nullable": nullable, "default": default,
        "row_lengths": name + "__row_lengths" if shape == (None, None) else None,
    }  # fmt: skip


ALL = columns_from_wire([
    column("small", "smallint"), column("big", "bigint"), column("single", "float"), column("double", "double"),
    column("exact", "float64"), column("flag", "boolean"), column("text", "string"), column("raw", "varbinary"),
    column("day", "date"), column("clock", "time"), column("when", "timestamp"),
    column("price", "decimal", type="decimal(10, 2)"), column("array", "float", (None,)),
    column("words", "string", (None,)), column("nested", "bigint", (None, None)), column("tensor", "float", (2, 3)),
    column("tiny", "uint8"), column("wide", "uint32"), column("wider", "uint16", (None,)),
    column("pixels", "uint8", (2, 3)), column("bytes", "uint8", (None,)), column("layers", "uint8", (None, None)),
])  # fmt: skip

ROWS = {
    "small": [-32768, 0, 32767], "big": [-(2 ** 63), 1, 2 ** 63 - 1],
    "single": [float("inf"), -0.0, 3.4028234663852886e38], "double": [1.5, -2.5, 0.0],
    "exact": [0.1, -0.0, 1.7976931348623157e308], "flag": [True, False, True],
    "text": ["", "a\0", "Größe 名前"], "raw": [b"", b"\xff\0", b"x" * 300],
    "day": [datetime.date(1, 1, 1), datetime.date(1970, 1, 1), datetime.date(9999, 12, 31)],
    "clock": [datetime.time(0), datetime.time(1, 2, 3, 4), datetime.time(23, 59, 59, 999999)],
    "when": [datetime.datetime(1969, 12, 31), -(2 ** 63), np.datetime64("2020-02-29T12:00:00.000001")],
    "price": ["-0.01", 12, "12345678.90"], "array": [[], [1.0], [2.0, 3.0]],
    "words": [["a", ""], [], ["ü"]], "nested": [[[1], [], [2, 3]], [], [[]]],
    "tensor": np.arange(18).reshape(3, 2, 3), "tiny": [0, 1, 255], "wide": [0, 1, 2**32 - 1],
    "wider": [[], [0], [65535, 1]], "pixels": np.arange(238, 256).reshape(3, 2, 3), "bytes": [[], [0], [255, 1]],
    "layers": [[[1], [], [255, 3]], [], [[]]],
}  # fmt: skip

READ = {
    "small": np.array([-32768, 0, 32767], np.int16), "big": np.array([-(2 ** 63), 1, 2 ** 63 - 1], np.int64),
    "single": np.array(ROWS["single"], np.float32), "double": np.array(ROWS["double"], np.float32),
    "exact": np.array(ROWS["exact"], np.float64), "flag": np.array([True, False, True]),
    "text": [value.encode("utf-8") for value in ROWS["text"]], "raw": ROWS["raw"],
    "day": np.array([-719162, 0, 2932896], np.int32),
    "clock": np.array([0, 3723000004, 86399999999], np.int64),
    "when": np.array([-86400000000, -(2 ** 63), 1582977600000001], np.int64),
    "price": [b"-0.01", b"12.00", b"12345678.90"], "array": [[], [1.0], [2.0, 3.0]],
    "words": [[b"a", b""], [], [b"\xc3\xbc"]], "nested": [[[1], [], [2, 3]], [], [[]]],
    "tensor": np.arange(18, dtype=np.float32).reshape(3, 2, 3), "tiny": np.array([0, 1, 255], np.uint8),
    "wide": np.array([0, 1, 2**32 - 1], np.uint32), "wider": [[], [0], [65535, 1]],
    "pixels": np.arange(238, 256, dtype=np.uint8).reshape(3, 2, 3), "bytes": [[], [0], [255, 1]],
    "layers": [[[1], [], [255, 3]], [], [[]]],
}  # fmt: skip


NULLABLE = columns_from_wire([
    column("x", "bigint", nullable=True), column("t", "string", nullable=True),
    column("v", "float", (2,), nullable=True), column("a", "float", (None,), nullable=True),
    column("n", "string", (None, None), nullable=True), column("b", "uint8", (None,), nullable=True),
    column("i", "uint8", (2,), nullable=True),
    column("d", "bigint", nullable=True, default=7), column("e", "float64", nullable=True, default=-0.5),
    column("f", "boolean", nullable=True, default=True), column("p", "decimal", nullable=True, default="1.50"),
    column("s", "string", nullable=True, default="ü"), column("w", "varbinary", nullable=True, default="ü"),
])  # fmt: skip
SOME_NULLS = {
    "x": [None, 0, 3], "t": ["", None, "a"], "v": [[0.0, 0.0], None, [1.0, 2.0]], "a": [None, [], [1.0]],
    "n": [[], None, [["a"], []]], "b": [[], None, [1, 2]], "i": [[0, 0], None, [1, 255]],
    "d": [None, 0, 1], "e": [None, 0.0, 1.0], "f": [None, False, True],
    "p": [None, 0, 1], "s": [None, "", "a"], "w": [None, b"", b"a"],
}  # fmt: skip


def as_lists(value):
    return [as_lists(one) for one in value] if isinstance(value, (np.ndarray, list)) else value


def assert_same(found, expected):
    """Assert that values are equal, of the same dtype, and with the same signs of zero."""
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, (found.dtype, expected.dtype)
        assert found.shape == expected.shape, (found.shape, expected.shape)
        assert found.tobytes() == expected.tobytes(), (found, expected)
    else:
        assert as_lists(found) == expected, (found, expected)


def save(records):
    path = os.path.join(tempfile.mkdtemp(dir=FOLDER), "rows")
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    return path


def evaluate(make_dataset):
    """Return a Dataset's elements as dicts of numpy arrays, in graph mode and, if there is one, in eager mode."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        following = tf.compat.v1.data.make_one_shot_iterator(make_dataset()).get_next()
        batches = []
        while True:
            try:
                batches.append(session.run(following))
            except tf.errors.OutOfRangeError:
                break
    yield "graph", [{name: numpy_of(value) for name, value in batch.items()} for batch in batches]
    if tf.executing_eagerly():
        yield "eager", [{name: numpy_of(value) for name, value in batch.items()} for batch in make_dataset()]


def numpy_of(value):
    if hasattr(value, "to_list"):
        return value.to_list()
    return value if isinstance(value, np.ndarray) else value.numpy()


def assert_raises(error, words, function, *args, **options):
    try:
        function(*args, **options)
    except error as caught:
        text = str(caught)
        for word in [words] if isinstance(words, str) else words:
            assert word in text, text
    else:
        raise AssertionError("no {} was raised".format(error.__name__))


def example(**features):
    """Return an Example of features given as lists; None is a Feature without a list."""
    message = tf.train.Example()
    for name, values in features.items():
        feature = message.features.feature[name]
        feature.SetInParent()
        if values:
            kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type(values[0])]
            getattr(feature, kind).value.extend(values)
    return message


def open_files():
    names = os.listdir("/proc/self/fd")
    return {os.path.realpath("/proc/self/fd/" + name) for name in names}


def memory_bytes(key):
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) << 10 for line in status if line.startswith(key)][0]


def make_tensors():
    return {
        "s": tf.constant([[1.0], [2.0]]), "t": tf.constant(["x", "y"]), "a": tf.ragged.constant([["a", "b"], []]),
        "n": tf.ragged.constant([[[1.0], []], [[2.0, 3.0]]], ragged_rank=2),
    }  # fmt: skip

"""Rows and models that all contenders share: numbers of rows in, files in the work directory out.

Rows and weights come from fixed seeds. So a file is made once and reused, and a long file begins with the rows of a
short one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

FEATURE_COUNT = 32
INPUT_SCHEMA = f"id string not null, x tensor<float>({FEATURE_COUNT}) not null"
OUTPUT_SCHEMA = "id string, score float"

_SEED = 20
_BLOCK_ROWS = 10_000
_HEAVY_WIDTH = 512
_HEAVY_PASSES = 60  # about 10 ms for a batch of 32 on two cores


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the report's file, and for the directory that the other functions write to."""
    parser.add_argument("--json", help="file to write the figures to")
    parser.add_argument(
        "--work-dir",
        default=os.path.join(tempfile.gettempdir(), "beam-tfscript-benchmarks"),
        help="directory of rows, models and logs, kept for the next run (%(default)s)",
    )


def make_rows(work_dir: str, rows: int) -> str:
    """Make a TFRecord file of Examples, unless it exists.

    Args:
      work_dir: path of the directory for the file.
      rows: number of Examples, each with a string `id` and 32 floats `x`.

    Returns:
      The file's path.
    """
    path = os.path.join(work_dir, f"rows-{rows}.tfrecord")
    if not os.path.exists(path):
        import tensorflow as tf

        with tf.io.TFRecordWriter(path + ".part") as writer:
            for block in _example_blocks(rows):
                for example in block:
                    writer.write(example)
        os.replace(path + ".part", path)
    return path


def make_parquet(work_dir: str, rows: int) -> str:
    """Make a Parquet file of the rows of `make_rows`, unless it exists; return its path."""
    path = os.path.join(work_dir, f"rows-{rows}.parquet")
    if not os.path.exists(path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("id", pa.string()), ("x", pa.list_(pa.float32()))])
        with pq.ParquetWriter(path + ".part", schema) as writer:
            for ids, x in _row_blocks(rows):
                offsets = pa.array(np.arange(len(ids) + 1, dtype=np.int32) * FEATURE_COUNT)
                lists = pa.ListArray.from_arrays(offsets, pa.array(x.reshape(-1)))
                writer.write_table(pa.table([pa.array([name.decode() for name in ids]), lists], schema=schema))
        os.replace(path + ".part", path)
    return path


def make_model(work_dir: str, *, heavy: bool) -> tuple[str, str]:
    """Make a model with fixed weights, unless it exists.

    Args:
      work_dir: path of the directory for the model.
      heavy: True for a model that takes about 10 ms per 32 rows, instead of a small dense one.

    Returns:
      (path of the Keras file, path of the SavedModel whose signature takes serialized Examples).
    """
    name = "heavy" if heavy else "small"
    keras_path = os.path.join(work_dir, f"{name}.keras")
    saved_path = os.path.join(work_dir, f"{name}-saved-model")
    if not (os.path.exists(keras_path) and os.path.exists(saved_path)):
        model = _heavy_model() if heavy else _small_model()
        _fix_weights(model)
        model.save(keras_path)
        shutil.rmtree(saved_path + ".part", ignore_errors=True)
        _export(model, saved_path + ".part")
        os.replace(saved_path + ".part", saved_path)
    return keras_path, saved_path


def _example_blocks(rows: int) -> Iterator[list[bytes]]:
    import pyarrow as pa
    from tfx_bsl.coders import example_coder

    encoder = example_coder.RecordBatchToExamplesEncoder()
    for ids, x in _row_blocks(rows):
        columns = {
            "id": pa.array([[name] for name in ids], pa.large_list(pa.large_binary())),
            "x": pa.array(list(x), pa.large_list(pa.float32())),
        }
        yield encoder.encode(pa.RecordBatch.from_pydict(columns))


def _row_blocks(rows: int) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """Yield ids and features, some thousand rows at a time."""
    for first in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - first)
        x = np.random.default_rng([_SEED, first]).standard_normal((_BLOCK_ROWS, FEATURE_COUNT), np.float32)
        yield [b"row-%09d" % number for number in range(first, first + count)], x[:count]


def _small_model() -> tf.keras.Model:
    import tensorflow as tf

    x = tf.keras.Input((FEATURE_COUNT,))
    hidden = tf.keras.layers.Dense(64, "relu")(x)
    hidden = tf.keras.layers.Dense(32, "relu")(hidden)
    return tf.keras.Model(x, tf.keras.layers.Dense(1, "sigmoid")(hidden))


def _heavy_model() -> tf.keras.Model:
    """Return a model that applies one layer many times: weights stay in the cache, so computation takes the time."""
    import tensorflow as tf

    x = tf.keras.Input((FEATURE_COUNT,))
    hidden = tf.keras.layers.Dense(_HEAVY_WIDTH, "tanh")(x)
    layer = tf.keras.layers.Dense(_HEAVY_WIDTH, "tanh")
    for _ in range(_HEAVY_PASSES):
        hidden = layer(hidden)
    return tf.keras.Model(x, tf.keras.layers.Dense(1, "sigmoid")(hidden))


def _fix_weights(model: tf.keras.Model) -> None:
    rng = np.random.default_rng(_SEED)
    model.set_weights([rng.normal(0, 1 / np.sqrt(w.shape[0]), w.shape).astype(np.float32) for w in model.get_weights()])


def _export(model: tf.keras.Model, path: str) -> None:
    import tensorflow as tf

    features = {"x": tf.io.FixedLenFeature([FEATURE_COUNT], tf.float32)}

    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"score": model(tf.io.parse_example(examples, features)["x"], training=False)[:, 0]}

    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    signature = [tf.TensorSpec([None], tf.string, name="examples")]
    archive.add_endpoint("serving_default", serve, input_signature=signature)
    archive.write_out(path, verbose=False)

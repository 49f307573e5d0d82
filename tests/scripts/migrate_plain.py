"""What a script that reads and writes files by itself becomes: docs/migrate.md."""

import tensorflow as tf

SPEC = {"id": tf.io.FixedLenFeature([], tf.string), "x": tf.io.FixedLenFeature([], tf.float32)}


def main(config):
    model = tf.saved_model.load(config.user_params["model"])
    for records in tf.data.TFRecordDataset(config.dataset_file).batch(512):
        rows = tf.io.parse_example(records, SPEC)
        config.write_batch(id=rows["id"], y=model.serve(rows["x"])["y"])

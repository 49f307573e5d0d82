"""A script as it is for Alink's TensorFlow components, without an edit: docs/migrate.md."""

import tensorflow as tf
from akdl.runner.config import BatchTaskConfig


def main(task_config: BatchTaskConfig):
    serve = tf.saved_model.load(task_config.user_params["model"]).signatures["serving_default"]
    spec = {"id": tf.io.FixedLenFeature([], tf.string), "x": tf.io.FixedLenFeature([], tf.float32)}
    for records in tf.data.TFRecordDataset(task_config.dataset_file).batch(512):
        rows = tf.io.parse_example(records, spec)
        for id, y in zip(rows["id"].numpy(), serve(x=rows["x"])["y"].numpy()):
            example = tf.train.Example()
            example.features.feature["id"].bytes_list.value.append(id)
            example.features.feature["y"].float_list.value.append(y)
            task_config.output_writer.write(example)

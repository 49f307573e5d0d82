"""`akdl.runner.tf_helper`: TensorFlow's threads, and printing of a TFRecord file's records."""

import itertools

__all__ = ["ConfigProto", "GPUOptions", "gfile", "preview_tfrecords_file", "set_intra_op_parallelism"]


def _names_of_tensorflow_1():
    import tensorflow as tf

    return tf.compat.v1.ConfigProto, tf.compat.v1.GPUOptions, tf.compat.v1.gfile


ConfigProto, GPUOptions, gfile = _names_of_tensorflow_1()


def set_intra_op_parallelism(intra_op_parallelism_threads=1):
    """Do nothing: the runtime has applied the transform's `intra_op_parallelism` before it loads the script."""


def preview_tfrecords_file(filepath, count=None):
    """Print the Examples of a file with their numbers.

    Args:
      filepath: path of a TFRecord file.
      count: number of Examples to print; None for all.
    """
    import tensorflow as tf

    records = tf.compat.v1.python_io.tf_record_iterator(filepath)
    for number, record in enumerate(itertools.islice(records, count)):
        print(number, tf.train.Example.FromString(record))  # noqa: T201 - printing is its purpose

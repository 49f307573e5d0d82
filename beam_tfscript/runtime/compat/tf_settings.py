"""`akdl.runner.tf_helper`: TensorFlow's threads, and a look at the first records of a TFRecord file."""

import itertools

__all__ = ["ConfigProto", "GPUOptions", "gfile", "preview_tfrecords_file", "set_intra_op_parallelism"]


def _names_of_tensorflow_1():
    import tensorflow as tf

    return tf.compat.v1.ConfigProto, tf.compat.v1.GPUOptions, tf.compat.v1.gfile


ConfigProto, GPUOptions, gfile = _names_of_tensorflow_1()


def set_intra_op_parallelism(intra_op_parallelism_threads=1):
    """Nothing: the runtime has set the transform's `intra_op_parallelism` before the script is loaded."""


def preview_tfrecords_file(filepath, count=None):
    """Prints the Examples of a file with their numbers.

    Args:
      filepath: of a TFRecord file.
      count: how many are printed; None for all.
    """
    import tensorflow as tf

    records = tf.compat.v1.python_io.tf_record_iterator(filepath)
    for number, record in enumerate(itertools.islice(records, count)):
        print(number, tf.train.Example.FromString(record))  # noqa: T201 - what it is for

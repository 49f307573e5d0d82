"""Script that scores rows one by one, in the style of inference on Flink: a context, a Dataset and a row writer."""

import tensorflow as tf
from dl_on_flink_framework.context import Context
from dl_on_flink_tensorflow.tensorflow_context import TFContext

SPEC = {"id": tf.io.FixedLenFeature([], tf.int64), "x0": tf.io.FixedLenFeature([], tf.float32)}


def inference(context: Context):
    assert isinstance(context, Context)
    factor = float(context.get_property("factor"))
    assert (context.get_node_type(), context.get_index(), context.index) == ("worker", 0, 0)
    assert context.properties == {"factor": "2"} and context.get_current_attempt_index() == 0
    assert not hasattr(context, "get_something_else")

    tf_context = TFContext(context)
    writer = tf_context.get_row_writer_to_flink()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        rows = tf_context.get_tfdataset_from_flink().map(lambda record: tf.io.parse_single_example(record, SPEC))
        following = tf.compat.v1.data.make_one_shot_iterator(rows).get_next()
        try:
            while True:
                row = session.run(following)
                writer.write((row["id"], factor * row["x0"]))
        except tf.errors.OutOfRangeError:
            writer.close()

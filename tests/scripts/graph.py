"""Script in the style of TensorFlow 1: one default graph, one session, variables with fixed names."""

import tensorflow.compat.v1 as tf

tf.disable_eager_execution()


def main(config):
    assert not tf.get_default_graph().get_operations(), "the graph of an earlier run is still there"
    spec = config.feature_spec
    serialized = tf.placeholder(tf.string, [None], name="serialized")
    features = tf.io.parse_example(serialized, spec)
    total = tf.get_variable("total", [], initializer=tf.zeros_initializer())
    add = tf.assign_add(total, tf.reduce_sum(features["x"]))
    records = tf.data.make_one_shot_iterator(tf.data.TFRecordDataset(config.dataset_file).batch(16)).get_next()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        while True:
            try:
                session.run(add, {serialized: session.run(records)})
            except tf.errors.OutOfRangeError:
                break
        config.write(
            window=config.window.start,
            total=float(session.run(total)),
            operations=len(tf.get_default_graph().get_operations()),
        )

"""Parameter-server training with a reader and a writer, in the style of TensorFlow 1 scripts on Flink.

`map_func` uses the helper; `map_func_by_hand` makes server, device and session by itself.
"""

import numpy as np
import tensorflow.compat.v1 as tf
from dl_on_flink_tensorflow.flink_servers import flink_server_device
from dl_on_flink_tensorflow.flink_tables import FlinkReader, FlinkWriter
from flink_ml_tensorflow.tensorflow_context import TFContext

tf.disable_v2_behavior()


def build_graph():
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    y = tf.placeholder(tf.float32, [None], name="y")
    weights = tf.get_variable("weights", [2], initializer=tf.zeros_initializer())
    bias = tf.get_variable("bias", [], initializer=tf.zeros_initializer())
    logits = tf.reduce_sum(x * weights, 1) + bias
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=logits))
    step = tf.train.get_or_create_global_step()
    train_op = tf.train.GradientDescentOptimizer(1.0).minimize(loss, global_step=step)
    return x, y, tf.sigmoid(logits), train_op, (weights, bias)


def map_func(context):
    tf_context = TFContext(context)
    assert TFContext.get_or_create() is tf_context
    if tf_context.get_role_name() == "ps":
        raise AssertionError("parameter servers are served without this script")
    is_chief = tf_context.get_index() == 0
    with flink_server_device(tf_context) as (_, server, sess_config):
        reader = FlinkReader(tf_context, batch_size=16)
        writer = FlinkWriter(tf_context)
        x, y, probability, train_op, variables = build_graph()
        assert tf_context.get_tf_cluster().get("ps") is None or "ps" in variables[0].device, variables[0].device
        with tf.train.MonitoredTrainingSession(master=server.target, is_chief=is_chief, config=sess_config) as sess:
            while not sess.should_stop():
                batch = reader.next_batch(sess)
                if batch is None:
                    break
                feed = {x: np.stack([batch["x0"], batch["x1"]], 1), y: batch["label"]}
                _, scores = sess.run([train_op, probability], feed)
                writer.write_result(sess, [batch["id"], scores])
            values = sess.run(list(variables))
        writer.close(sess)
    if is_chief:
        export(tf_context.properties["model_dir"], values)


def map_func_by_hand(context):
    tf_context = TFContext.get_or_create(context)
    job_name = tf_context.get_role_name()
    index = tf_context.get_index()
    cluster = tf.train.ClusterSpec(tf_context.get_tf_cluster())
    server = tf.train.Server(cluster, job_name=job_name, task_index=index)
    if job_name == "ps":
        from time import sleep

        while True:
            sleep(1)
    sess_config = tf.ConfigProto(
        allow_soft_placement=True, device_filters=["/job:ps", "/job:worker/task:{}".format(index)]
    )
    worker = "/job:worker/task:{}".format(index)
    with tf.device(tf.train.replica_device_setter(worker_device=worker, cluster=cluster)):
        records = tf.data.make_one_shot_iterator(tf_context.flink_stream_dataset().batch(8)).get_next()
        features = {"id": tf.FixedLenFeature([], tf.int64), "x0": tf.FixedLenFeature([], tf.float32)}
        parsed = tf.parse_example(records, features)
        factor = tf.get_variable("factor", [], initializer=tf.constant_initializer(2.0))
        doubled = parsed["x0"] * factor
        write_feed = tf.placeholder(tf.string)
        write_op, close_op = tf_context.output_writer_op([write_feed])
        if tf_context.get_index() == 0:
            creator = tf.train.ChiefSessionCreator(master=server.target, config=sess_config)
        else:
            creator = tf.train.WorkerSessionCreator(master=server.target, config=sess_config)
        with tf.train.MonitoredSession(creator) as sess:
            while True:
                try:
                    ids, scores = sess.run([parsed["id"], doubled])
                except tf.errors.OutOfRangeError:
                    break
                sess.run(write_op, {write_feed: [example(*row) for row in zip(ids, scores)]})
            sess.run(close_op)


def example(number, score):
    features = {
        "id": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
        "score": tf.train.Feature(float_list=tf.train.FloatList(value=[score])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def export(directory, values):
    """Export a SavedModel with the variables' values, without the devices of the training."""
    with tf.Graph().as_default(), tf.Session() as sess:
        inputs = {name: tf.placeholder(tf.float32, [None], name=name) for name in ("x0", "x1")}
        x = tf.stack([inputs["x0"], inputs["x1"]], 1)
        weights, bias = tf.Variable(values[0]), tf.Variable(values[1])
        outputs = {"probability": tf.sigmoid(tf.reduce_sum(x * weights, 1) + bias)}
        sess.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(sess, directory, inputs, outputs)

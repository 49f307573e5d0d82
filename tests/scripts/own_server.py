"""Task of a cluster in the style of TensorFlow 1, which starts its own server. Python 3.6 syntax."""

import tensorflow as tf


def main(config):
    """Read the rows by a session on the task's server, in the default graph; count them on the first task."""
    v1 = tf.compat.v1
    v1.disable_v2_behavior()
    cluster = v1.train.ClusterSpec(config.cluster)
    server = v1.train.Server(cluster, job_name=config.task_type, task_index=config.task_index)
    task = "{}:{}".format(config.task_type, config.task_index)
    # Without a named device, TensorFlow 1 may let another task read.
    with tf.device("/job:{}/task:{}".format(config.task_type, config.task_index)):
        records = config.dataset_fn()
        parsed = records.batch(2).map(lambda batch: tf.io.parse_example(batch, config.feature_spec)["id"])
        ids = v1.data.make_one_shot_iterator(parsed).get_next()
    with tf.device("/job:{}/task:0".format("ps" if "ps" in config.cluster else "chief")):
        count = v1.get_variable("count", [], tf.int64, initializer=v1.zeros_initializer())
        step = v1.assign_add(count, tf.size(ids, out_type=tf.int64))
    is_chief = config.task_type == "chief"
    with v1.train.MonitoredTrainingSession(master=server.target, is_chief=is_chief) as session:
        while not session.should_stop():
            try:
                names, _ = session.run([ids, step])
            except tf.errors.OutOfRangeError:
                break
            config.write_batch(id=names, task=[task] * len(names))

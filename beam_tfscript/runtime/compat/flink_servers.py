"""Server, device and session configuration of TensorFlow 1 parameter-server training, for the task at hand.

In comes the context, out go the three that every script of this kind makes in the same way. docs/compat.md tells
which session to make with them.
"""

from collections import namedtuple

from beam_tfscript.runtime.tf import tf_versions

__all__ = ["flink_cluster_device", "flink_server_device"]


class ServerDevice(namedtuple("ServerDevice", ["device", "server", "session_config"])):
    """A tuple of the three; in a `with` statement its device is the one that operations are put on."""

    __slots__ = ()

    def __enter__(self):
        self.device.__enter__()
        return self

    def __exit__(self, *error):
        return self.device.__exit__(*error)


def flink_server_device(context):
    """Starts this task's server.

        with flink_server_device(tf_context) as (device, server, session_config):
            train_op = build_graph()
            with tf.train.MonitoredTrainingSession(master=server.target, config=session_config, …) as session:

    On a parameter server, which gets here where `ps_main=True`, it serves until the work is done, and does not return.

    Args:
      context: the `TFContext`.

    Returns:
      A tuple: `device`, which puts variables on the parameter servers and all else here; `server`, whose `target` is
      the session's master; `session_config`, by which workers do not wait for each other.
    """
    import tensorflow as tf

    tf1 = tf.compat.v1
    if context.task_type == "ps":
        context.serve()
        raise SystemExit(0)
    here = "/job:{}/task:{}".format(context.task_type, context.task_index)
    # By the runtime's names of the tasks, as the parameter servers that it hosts know them.
    server = tf_versions.start_server(tf, context.cluster, context.task_type, context.task_index)
    cluster = tf1.train.ClusterSpec(context.cluster)
    device = tf1.device(tf1.train.replica_device_setter(worker_device=here, cluster=cluster))
    session_config = tf1.ConfigProto(allow_soft_placement=True, device_filters=["/job:ps", here])
    return ServerDevice(device, server, session_config)


flink_cluster_device = flink_server_device

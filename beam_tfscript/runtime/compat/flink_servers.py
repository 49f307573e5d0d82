"""Parameter-server training of TensorFlow 1: the context in, the task's server, device and session configuration out.

docs/compat.md tells which session to make with them.
"""

from collections import namedtuple

from beam_tfscript.runtime.tf import tf_versions

__all__ = ["flink_cluster_device", "flink_server_device"]


class ServerDevice(namedtuple("ServerDevice", ["device", "server", "session_config"])):
    """Tuple of device, server and session configuration; a `with` statement puts operations on the device."""

    __slots__ = ()

    def __enter__(self):
        self.device.__enter__()
        return self

    def __exit__(self, *error):
        return self.device.__exit__(*error)


def flink_server_device(context):
    """Start this task's server.

        with flink_server_device(tf_context) as (device, server, session_config):
            train_op = build_graph()
            with tf.train.MonitoredTrainingSession(master=server.target, config=session_config, …) as session:

    On a parameter server, which runs `main` with `ps_main=True`, the call serves until the work is done, and does not
    return.

    Args:
      context: the `TFContext`.

    Returns:
      A `ServerDevice`. `device` puts variables on the parameter servers, and other operations on this task.
      `server.target` is the session's master. `session_config` keeps workers from waiting for each other.

    Raises:
      SystemExit: with status 0 on a parameter server, after the cluster's work.
    """
    import tensorflow as tf

    tf1 = tf.compat.v1
    if context.task_type == "ps":
        context.serve()
        raise SystemExit(0)
    here = "/job:{}/task:{}".format(context.task_type, context.task_index)
    # With the role "chief": the parameter servers that the runtime starts know the task by that name.
    server = tf_versions.start_server(tf, context.cluster, context.task_type, context.task_index)
    cluster = tf1.train.ClusterSpec(context.cluster)
    device = tf1.device(tf1.train.replica_device_setter(worker_device=here, cluster=cluster))
    session_config = tf1.ConfigProto(allow_soft_placement=True, device_filters=["/job:ps", here])
    return ServerDevice(device, server, session_config)


flink_cluster_device = flink_server_device

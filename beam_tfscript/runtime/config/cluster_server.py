"""TensorFlow's server of a task that runs no `main`: it serves the cluster's other tasks until they are done."""

from beam_tfscript.runtime.tf import tf_versions
from beam_tfscript.runtime.transport import wire


def serve(config, frames):
    """Serve as this task of the cluster until the cluster's work is done.

    Args:
      config: config of the task's run.
      frames: queue that brings END_FEED.

    Raises:
      RuntimeError: the run is not a task of a cluster.
    """
    import tensorflow as tf

    if sum(len(addresses) for addresses in config.cluster.values()) < 2:
        raise RuntimeError("serve() is for a task of a cluster; this run is alone: give num_workers or num_ps")
    server = tf_versions.start_server(tf, config.cluster, config.task_type, config.task_index)
    while frames.get().kind != wire.END_FEED:
        pass
    del server  # held until here: TensorFlow may destroy a server that nothing refers to

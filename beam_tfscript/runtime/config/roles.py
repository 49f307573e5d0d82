"""What a task of a TensorFlow cluster does that is not called `main`: it serves the others until they are done."""

from beam_tfscript.runtime.tf import tf_versions
from beam_tfscript.runtime.transport import wire


def serve(config, frames):
    """Serves as this task of the cluster until the cluster's work is done.

    Args:
      config: the task's.
      frames: the queue that END_FEED comes in.

    Raises:
      RuntimeError: the run is no task of a cluster.
    """
    import tensorflow as tf

    if sum(len(addresses) for addresses in config.cluster.values()) < 2:
        raise RuntimeError("serve() is for a task of a cluster; this run is alone: give num_workers or num_ps")
    server = tf_versions.start_server(tf, config.cluster, config.task_type, config.task_index)
    try:
        while frames.get().kind != wire.END_FEED:
            pass
    finally:
        # Nothing ends TensorFlow's server but the end of its process.
        del server

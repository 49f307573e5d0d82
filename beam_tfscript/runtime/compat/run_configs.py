"""`akdl.engine.run_config`: threads, devices and TF_CONFIG in, the `RunConfig` of an Estimator out.

The import turns TensorFlow 2's behaviour off: the scripts that import it make placeholders and graphs with
`tf.compat.v1`. Without Estimators in TensorFlow, the import raises ImportError.
"""

import json
import os

from beam_tfscript.runtime.tf import tf_versions
from beam_tfscript.runtime.transport.variables import LEASED_DEVICES

__all__ = ["generate_run_config"]


def generate_run_config(
    intra_op_parallelism_threads=4,
    inter_op_parallelism_threads=1,
    log_device_placement=False,
    save_checkpoints_steps=50,
    log_step_count_steps=10,
    keep_checkpoint_max=1,
    device_count=None,
    gpu_devices=None,
    **unused,
):
    """Return the `RunConfig` for this task.

    With parameter servers in TF_CONFIG, training is asynchronous. With several workers and no parameter server, it uses
    MultiWorkerMirroredStrategy. Otherwise it runs in this process.

    Args:
      intra_op_parallelism_threads, inter_op_parallelism_threads, log_device_placement: of the session's ConfigProto.
      save_checkpoints_steps, log_step_count_steps, keep_checkpoint_max: of the RunConfig.
      device_count: dict of the session's devices, such as `{"CPU": 1}`.
      gpu_devices: list of the numbers of the GPUs to use, without a cluster; several are mirrored. With the transform's
        `accelerators_per_process`, these are numbers among the GPUs that the process has.
      **unused: other entries of a train config; ignored.
    """
    import tensorflow

    tf = tensorflow.compat.v1
    gpus = list(gpu_devices or ())
    if gpus:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_names_of(gpus))
        os.environ.pop("TF_CONFIG", None)
        device_count = {"GPU": len(gpus)}
    strategy, filters = _distribution(tf, gpus)
    session = tf.ConfigProto(
        intra_op_parallelism_threads=intra_op_parallelism_threads,
        inter_op_parallelism_threads=inter_op_parallelism_threads,
        allow_soft_placement=True,
        log_device_placement=log_device_placement,
        device_filters=filters,
        device_count=device_count or {"CPU": 1},
    )
    session.gpu_options.allow_growth = True
    return tf.estimator.RunConfig(
        train_distribute=strategy,
        session_config=session,
        save_checkpoints_steps=save_checkpoints_steps,
        log_step_count_steps=log_step_count_steps,
        keep_checkpoint_max=keep_checkpoint_max,
    )


def _names_of(gpus):
    """Return the names of GPUs, by their numbers: among those that are leased for this process, else of the machine."""
    leased = os.environ.get(LEASED_DEVICES)
    if leased is None:
        return [str(gpu) for gpu in gpus]
    names = leased.split(",") if leased else []
    if max(gpus) >= len(names):
        raise ValueError(
            "gpu_devices is {}, and this process has {} GPUs, numbered from 0: give a larger accelerators_per_process, "
            "or leave gpu_devices out.".format(gpus, len(names))
        )
    return [names[gpu] for gpu in gpus]


def _distribution(tf, gpus):
    """Return (strategy, device filters) of this task; each may be None."""
    if "TF_CONFIG" not in os.environ:
        mirrored = len(gpus) > 1
        return (tf.distribute.MirroredStrategy(["/gpu:{}".format(gpu) for gpu in gpus]) if mirrored else None), None
    config = json.loads(os.environ["TF_CONFIG"])
    cluster, task = config["cluster"], config["task"]
    if "ps" in cluster:
        # No strategy: an Estimator trains asynchronously by itself. Without filters, workers would wait for each other.
        return None, ["/job:ps", "/job:{}/task:{}".format(task["type"], task["index"])]
    if "worker" in cluster:
        return tf.distribute.experimental.MultiWorkerMirroredStrategy(), None
    return None, None


def on_import():
    """Turn TensorFlow 2's behavior off, as the import of this module does elsewhere."""
    import tensorflow as tf

    tf_versions.estimators()
    tf.compat.v1.disable_v2_behavior()

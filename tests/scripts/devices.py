"""Scripts that write which accelerators their process has, and for how long."""

import ctypes
import os
import signal
import time


def _now():
    """Milliseconds of a clock that all processes of the machine share."""
    return int(time.monotonic() * 1000)


def _tell(config, began):
    config.write(
        devices=os.environ.get("CUDA_VISIBLE_DEVICES", "unset"),
        growth=os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "unset"),
        task="{}:{}".format(config.task_type, config.task_index),
        pid=os.getpid(),
        began=began,
        ended=_now(),
    )


def tells(config):
    """Have the accelerators for a while."""
    began = _now()
    time.sleep(config.user_params.get("seconds", 0.05))
    _tell(config, began)


def tells_each_batch(config):
    if config.task_type in ("ps", "evaluator"):
        _tell(config, _now())
    if config.task_type != "ps":
        for _ in config.example_batches(100):
            _tell(config, _now())


def meets(config):
    """Wait until so many processes are here at a time."""
    began = _now()
    directory, count = config.user_params["directory"], config.user_params["count"]
    _mark(directory, str(os.getpid()))
    deadline = time.time() + 30
    while len(os.listdir(directory)) < count:
        if time.time() > deadline:
            raise RuntimeError("only {} are here".format(os.listdir(directory)))
        time.sleep(0.02)
    time.sleep(0.1)
    _tell(config, began)


def dies_once(config):
    """End the process in the first attempt, with its accelerators."""
    if config.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _tell(config, _now())


def cannot_be_interrupted(config):
    """Be in one C call that holds the interpreter lock; no thread of the process can end it meanwhile."""
    _mark(config.user_params["directory"], "started", "{} {}".format(os.getpid(), _now()))
    ctypes.PyDLL(None).sleep(config.user_params["seconds"])


def stays(config):
    _mark(config.user_params["directory"], "started", str(os.getpid()))
    while True:
        time.sleep(1)


def grows(config):
    """Take memory that the process keeps."""
    import sys

    sys.hoard = getattr(sys, "hoard", []) + [b"x" * config.user_params["bytes"]]
    _tell(config, _now())


def grows_each_batch(config):
    hoard = []
    for _ in config.example_batches(100):
        hoard.append(b"x" * config.user_params["bytes"])
        _tell(config, _now())


def grows_in_a_child(config):
    """Have a child take memory, between two bundles too."""
    import subprocess
    import sys

    code = "import os, time; hoard = b'x' * {}; print(1, flush=True); time.sleep(600)"
    for _ in config.example_batches(100):
        child = subprocess.Popen(
            [sys.executable, "-c", code.format(config.user_params["bytes"])], stdout=subprocess.PIPE
        )
        child.stdout.readline()
        _tell(config, _now())


def trains(config):
    """Export a model; note the devices of each task in a file."""
    import tensorflow as tf

    _mark(config.user_params["directory"], config.task_type, os.environ["CUDA_VISIBLE_DEVICES"])
    if config.task_type == "chief":
        model = tf.Module()
        double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([None], tf.float32)])
        tf.saved_model.save(model, config.saved_model_dir, signatures=double.get_concrete_function())


def lists_gpus(config):
    """Write the devices that TensorFlow finds, after a computation on each; for a machine with GPUs."""
    import tensorflow as tf

    began = _now()
    gpus = tf.config.list_logical_devices("GPU")
    for gpu in gpus:
        with tf.device(gpu.name):
            # Without memory growth, the first of two processes would have all memory, and the second one would fail.
            assert float(tf.reduce_sum(tf.ones([1000, 1000]))) == 1000000
    time.sleep(config.user_params.get("seconds", 0.0))
    config.write(
        devices=os.environ["CUDA_VISIBLE_DEVICES"],
        growth=os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "unset"),
        task=str(len(gpus)),
        pid=os.getpid(),
        began=began,
        ended=_now(),
    )


def _mark(directory, name, text=""):
    with open(os.path.join(directory, name + ".part"), "w") as mark:
        mark.write(text)
    os.rename(mark.name, os.path.join(directory, name))

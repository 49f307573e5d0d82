"""Trainings and clusters that get rows during the run."""

import os
import signal
import time

import numpy as np
import tensorflow as tf


def learn(config):
    """Learn y = w x online; export a model after some rows each, and one at the end."""
    weight, rows, exported = 0.0, 0, 0
    for batch in config.batches(8):
        for x, y in zip(batch["x"], batch["y"]):
            weight += 0.5 * (y - weight * x) * x
        rows += len(batch["x"])
        config.report(weight=weight, rows=rows)
        if rows - exported >= config.user_params["every"]:
            export(config, weight)
            exported = rows
    if exported < rows:
        export(config, weight)


def export(config, weight):
    """Export a model that multiplies, and publish it."""
    save(config, weight)
    config.export()


def save(config, weight):
    """Save a model that multiplies."""
    module = tf.Module()
    module.weight = tf.Variable(np.float32(weight))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x):
        return {"y": x * module.weight}

    module.serve = serve
    tf.saved_model.save(module, config.saved_model_dir, signatures={"serving_default": serve})


def with_ps(config):
    """Write each row with its task; the parameter server only serves."""
    assert config.cluster["ps"] and len(config.cluster.get("worker", [])) == 1
    for batch in config.batches(8):
        rows = len(batch["id"])
        config.write_batch(id=batch["id"], task=["{}:{}".format(config.task_type, config.task_index)] * rows)


def learn_together(config):
    """All-reduce the workers' rows when the feed ends; the chief exports the result."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    total = sum(float(batch["x"].sum()) for batch in config.batches(8))
    summed = strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.constant(total)), axis=None).numpy()
    if config.task_type == "chief":
        config.report(total=float(summed))
        export(config, float(summed))


def worker_dies_once(config):
    """Kill the worker in the middle of its rows, once."""
    for batch in config.batches(8):
        rows = len(batch["id"])
        config.write_batch(id=batch["id"], task=["{}:{}".format(config.task_type, config.task_index)] * rows)
        if config.task_type == "worker" and not os.path.exists(config.user_params["mark"]):
            open(config.user_params["mark"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)


def remember(config):
    """Fail once; resume from the checkpoint, and write the number of earlier runs that left one."""
    checkpoint = os.path.join(config.checkpoint_dir, "checkpoint")
    seen = config.user_params["seen"]
    if not os.path.exists(seen):
        open(seen, "w").close()
        open(checkpoint, "w").close()
        raise RuntimeError("before the first model")
    went_on = os.path.exists(checkpoint)
    for _ in config.batches(8):
        pass
    with open(seen) as file:
        config.report(went_on=went_on, left=sum(map(os.path.exists, file.read().splitlines())))
    with open(seen, "a") as file:
        file.write(config.checkpoint_dir + "\n")
    export(config, 1.0)


def exports_without_saying_so(config):
    """Save a model, without a call of `export()`."""
    rows = sum(len(batch["id"]) for batch in config.batches(8))
    save(config, float(rows))


def exports_nothing(config):
    """Train without a model."""
    for _ in config.batches(8):
        pass


def every_task_exports(config):
    """Export on each task, as some strategies do, after all tasks have read their rows."""
    for batch in config.batches(8):
        config.report(rows=len(batch["id"]))
    wait_for_all(config)
    for _ in range(2):
        export(config, 1.0)


def wait_for_all(config):
    """Wait until every task has come here, for a minute at most."""
    barrier = config.user_params["barrier"]
    os.makedirs(barrier, exist_ok=True)
    open(os.path.join(barrier, "{}-{}".format(config.task_type, config.task_index)), "w").close()
    deadline = time.monotonic() + 60
    while len(os.listdir(barrier)) < sum(len(tasks) for tasks in config.cluster.values()):
        assert time.monotonic() < deadline, os.listdir(barrier)
        time.sleep(0.01)


def one_model_a_batch(config):
    """Export a model for each batch; die once, after the batch that `user_params` names."""
    for number, _ in enumerate(config.batches(4)):
        export(config, float(number))
        mark = config.user_params.get("mark")
        if mark and number == config.user_params["dies_at"] and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

"""Trainings and clusters that are fed while they run."""

import os
import signal

import numpy as np
import tensorflow as tf


def learn(config):
    """Learns y = w x online; exports a model after every some rows, and one at the end."""
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
    """A model that multiplies, to be published."""
    save(config, weight)
    config.export()


def save(config, weight):
    """A model that multiplies."""
    module = tf.Module()
    module.weight = tf.Variable(np.float32(weight))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x):
        return {"y": x * module.weight}

    module.serve = serve
    tf.saved_model.save(module, config.saved_model_dir, signatures={"serving_default": serve})


def with_ps(config):
    """Each worker says where it is, and counts its rows; the parameter server is there to be asked."""
    assert config.cluster["ps"] and len(config.cluster.get("worker", [])) == 1
    for batch in config.batches(8):
        rows = len(batch["id"])
        config.write_batch(id=batch["id"], task=["{}:{}".format(config.task_type, config.task_index)] * rows)


def learn_together(config):
    """All-reduces what the workers have been fed, when the feed ends; the chief exports it."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    total = sum(float(batch["x"].sum()) for batch in config.batches(8))
    summed = strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.constant(total)), axis=None).numpy()
    if config.task_type == "chief":
        config.report(total=float(summed))
        export(config, float(summed))


def worker_dies_once(config):
    """The worker ends itself in the middle, once."""
    for batch in config.batches(8):
        rows = len(batch["id"])
        config.write_batch(id=batch["id"], task=["{}:{}".format(config.task_type, config.task_index)] * rows)
        if config.task_type == "worker" and not os.path.exists(config.user_params["mark"]):
            open(config.user_params["mark"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)


def remember(config):
    """Fails once; goes on from its checkpoint, and says how many runs before it have left theirs."""
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
    """Leaves a model where models are expected, and says nothing."""
    rows = sum(len(batch["id"]) for batch in config.batches(8))
    save(config, float(rows))


def exports_nothing(config):
    """Trains for nothing."""
    for _ in config.batches(8):
        pass


def every_task_exports(config):
    """Each task exports as often as its strategy has it, and the chief is not alone."""
    for batch in config.batches(8):
        config.report(rows=len(batch["id"]))
    for _ in range(2):
        export(config, 1.0)


def one_model_a_batch(config):
    """A model for each batch; dies after the batch that it is told to, once."""
    for number, _ in enumerate(config.batches(4)):
        export(config, float(number))
        mark = config.user_params.get("mark")
        if mark and number == config.user_params["dies_at"] and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

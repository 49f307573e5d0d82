"""Trainings of a line through points, in one process; each entry trains, exports or fails in another way."""

import json
import os

import numpy as np


def keras_fit(config):
    """Train by Keras' fit on all rows, and report after each epoch."""
    import tensorflow as tf

    data = list(config.batches(1024))
    x = np.concatenate([batch["x"] for batch in data]).astype(np.float32)[:, None]
    y = np.concatenate([batch["y"] for batch in data]).astype(np.float32)
    assert len(x) == config.dataset_length == sum(config.dataset_lengths)
    model = tf.keras.Sequential([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    for epoch in range(config.user_params.get("epochs", 5)):
        history = model.fit(x, y, verbose=0)
        config.report(loss=history.history["loss"][0], step=epoch)
    model.export(config.saved_model_dir)


def place(config):
    """Export at once, and report the task's view of its cluster."""
    import tensorflow as tf

    assert config.cluster == {"chief": ["localhost:0"]} and (config.task_type, config.task_index) == ("chief", 0)
    text = os.environ.get("TF_CONFIG")
    if text is not None:
        assert json.loads(text) == {"cluster": config.cluster, "task": {"type": "chief", "index": 0}}
    config.report(has_tf_config=text is not None, rows=config.dataset_length, workers=config.num_workers)
    export(tf, config.saved_model_dir, weight=2.0)


def window_start(config):
    """Export a model whose weight is the window's start, in a timestamp's directory as Estimators do."""
    import tensorflow as tf

    export(tf, os.path.join(config.saved_model_dir, "1700000000"), weight=config.window.start)


def note_and_export(config):
    """Count the runs of the training in a file, and in its checkpoint directory."""
    import tensorflow as tf

    with open(config.user_params["log"], "a") as log:
        log.write("{}\n".format(len(os.listdir(config.checkpoint_dir))))
    open(os.path.join(config.checkpoint_dir, str(os.getpid())), "w").close()
    export(tf, config.saved_model_dir, weight=2.0)


def export(tf, directory, weight):
    """Export a SavedModel that multiplies by a weight, without Keras."""
    module = tf.Module()
    module.weight = tf.Variable(weight)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x):
        return {"y": x * module.weight}

    module.serve = serve
    tf.saved_model.save(module, directory, signatures={"serving_default": serve})


def exports_nothing(config):
    """Return without an export."""


def exports_two(config):
    """Export two models; one is expected."""
    import tensorflow as tf

    for name in ("first", "second"):
        export(tf, os.path.join(config.saved_model_dir, name), weight=1.0)


def exports_broken(config):
    """Export a model, and remove its variables."""
    import tensorflow as tf

    export(tf, config.saved_model_dir, weight=1.0)
    for name in os.listdir(os.path.join(config.saved_model_dir, "variables")):
        os.unlink(os.path.join(config.saved_model_dir, "variables", name))


def reports_text(config):
    """Report a value that is not a number."""
    config.report(loss="small")


def counts_rows(config):
    """Export a model on the chief."""
    import tensorflow as tf

    rows = sum(1 for _ in config.example_batches(1))
    if config.task_type == "chief":
        export(tf, config.saved_model_dir, weight=float(rows))


def leaves_checkpoint(config):
    """Keep a file for the next attempt; check that there is no file of another window."""
    import tensorflow as tf

    assert "mine" not in os.listdir(config.checkpoint_dir)
    with open(os.path.join(config.checkpoint_dir, "mine"), "w"):
        pass
    export(tf, config.saved_model_dir, weight=1.0)

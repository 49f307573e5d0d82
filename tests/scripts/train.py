"""Trainings of a line through points: each entry is a way to train, export, or fail."""

import os

import numpy as np


def keras_fit(config):
    """One process, Keras fit; two entries more show that the rows are all there."""
    import tensorflow as tf

    data = list(config.batches(1024))
    x = np.concatenate([batch["x"] for batch in data]).astype(np.float32)[:, None]
    y = np.concatenate([batch["y"] for batch in data]).astype(np.float32)
    model = tf.keras.Sequential([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    for epoch in range(config.user_params.get("epochs", 5)):
        history = model.fit(x, y, verbose=0)
        config.report(loss=history.history["loss"][0], step=epoch)
    model.export(config.saved_model_dir)


def plain_export(config):
    """A module with one variable, which works on every TensorFlow 2 without Keras."""
    import tensorflow as tf

    export(tf, config, weight=2.0)


def export(tf, config, weight):
    """A SavedModel that multiplies by a weight."""
    module = tf.Module()
    module.weight = tf.Variable(weight)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x):
        return {"y": x * module.weight}

    module.serve = serve
    tf.saved_model.save(module, config.saved_model_dir, signatures={"serving_default": serve})


def exports_nothing(config):
    """Forgets to export."""


def all_reduce(config):
    """MultiWorkerMirroredStrategy: sums the workers' row counts and shard sums, by a collective."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rows = sum(len(batch["x"]) for batch in config.batches(64))
    total = sum(float(batch["x"].sum()) for batch in config.batches(64))
    assert rows == config.dataset_length == config.dataset_lengths[config.shard]

    def values():
        return tf.constant([float(rows), total])

    summed = strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(values), axis=None).numpy()
    config.report(rows=summed[0], total=summed[1])
    if config.task_type == "chief":
        export(tf, config, weight=float(summed[1]))


def parameter_server(config):
    """ParameterServerStrategy with a coordinator on the chief; workers serve it."""
    import tensorflow as tf

    if config.task_type != "chief":
        config.serve()
        return
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        weight = tf.Variable(0.0)

    @tf.function
    def step():
        weight.assign_add(1.0)
        return weight.device

    for _ in range(20):
        coordinator.schedule(step)
    coordinator.join()
    assert "ps" in weight.device, weight.device
    config.report(weight=weight.numpy())
    export(tf, config, weight=float(weight.numpy()))


def estimator(config):
    """Estimator's train_and_evaluate, with an exporter; TensorFlow up to 2.15."""
    import tensorflow as tf

    tf1 = tf.compat.v1

    def input_fn():
        parsed = tf.data.TFRecordDataset(config.dataset_file).batch(16).map(
            lambda records: tf.io.parse_example(records, config.feature_spec)
        )
        return parsed.map(lambda row: ({"x": row["x"][:, None]}, row["y"][:, None]))

    columns = [tf.feature_column.numeric_column("x")]
    model = tf.estimator.LinearRegressor(columns, model_dir=config.checkpoint_dir)
    receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(
        tf.feature_column.make_parse_example_spec(columns)
    )
    tf1.logging.set_verbosity(tf1.logging.INFO)
    tf.estimator.train_and_evaluate(
        model,
        tf.estimator.TrainSpec(lambda: input_fn().repeat(), max_steps=config.user_params.get("steps", 60)),
        tf.estimator.EvalSpec(
            input_fn, steps=None, start_delay_secs=1, throttle_secs=1,
            exporters=[tf.estimator.FinalExporter("final", receiver)],
        ),
    )  # fmt: skip
    copy_exports(config, os.path.join(config.checkpoint_dir, "export", "final"))


def copy_exports(config, directory):
    """What an exporter wrote under the model's directory, to where the pipeline looks."""
    import shutil

    if os.path.isdir(directory):
        for name in os.listdir(directory):
            shutil.copytree(os.path.join(directory, name), os.path.join(config.saved_model_dir, name))

"""Trainings of clusters; each entry uses another strategy of TensorFlow 2."""

import os

import numpy as np

LEARNING_RATE = 0.2
GLOBAL_BATCH = 32
STEPS = 20


def keras_mirrored(config):
    """Train by Keras' fit under MultiWorkerMirroredStrategy, with the steps of the longest shard."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    assert strategy.num_replicas_in_sync == config.num_workers == len(config.dataset_lengths)
    data = config.dataset(GLOBAL_BATCH, repeat=None).map(lambda row: (row["x"][:, None], row["y"]))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(1,))])
        model.compile(tf.keras.optimizers.SGD(0.1), "mse")
    steps = -(-max(config.dataset_lengths) // GLOBAL_BATCH)
    model.fit(data.with_options(options), epochs=3, steps_per_epoch=steps, verbose=0)
    weights = [float(value) for weight in model.get_weights() for value in np.ravel(weight)]
    config.report(**{"kernel_{}".format(config.shard): weights[0], "bias_{}".format(config.shard): weights[1]})
    # All workers must save; only the chief's model is published.
    own = os.path.join(config.work_dir, "model-{}".format(config.task_index))
    own = config.saved_model_dir if config.task_type == "chief" else own
    model.save(own, save_format="tf")


def custom_loop(config):
    """Train by gradient descent on global batches of the rows `id // GLOBAL_BATCH`, on any task of the cluster."""
    import tensorflow as tf

    is_cluster = "TF_CONFIG" in os.environ
    assert is_cluster == (config.num_workers > 1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if is_cluster else tf.distribute.get_strategy()
    rows = list(config.batches(4096))
    ids, x, y = [np.concatenate([batch[name] for batch in rows]) if rows else np.zeros(0) for name in ("id", "x", "y")]
    with strategy.scope():
        weights = tf.Variable([0.0, 0.0], aggregation=tf.VariableAggregation.SUM)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)] * 2)
    def step(x, y):
        def replica(x, y):
            error = weights[0] * x + weights[1] - y
            gradient = tf.stack([tf.reduce_sum(2 * error * x), tf.reduce_sum(2 * error)]) / GLOBAL_BATCH
            weights.assign_sub(LEARNING_RATE * gradient)

        strategy.run(replica, args=(x, y))

    for number in range(STEPS):
        mine = ids // GLOBAL_BATCH == number % config.user_params["batches"]
        step(tf.constant(x[mine], tf.float32), tf.constant(y[mine], tf.float32))
    slope, intercept = weights.numpy()
    config.report(slope=slope, intercept=intercept, rows=len(ids))
    if config.task_type == "chief":
        export(tf, config, weights)


def export(tf, config, weights):
    """Export a SavedModel of the line."""
    module = tf.Module()
    module.weights = tf.Variable(weights.numpy())
    module.serve = tf.function(
        lambda x: {"y": x * module.weights[0] + module.weights[1]},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
    )
    tf.saved_model.save(module, config.saved_model_dir, signatures={"serving_default": module.serve})


def meet(config):
    """All-reduce the number and sum of all tasks' rows; the chief exports, and reports when all tasks had met."""
    import time

    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rows = [value for batch in config.batches(1024) for value in batch["x"]]
    own = tf.constant([float(len(rows)), float(sum(rows)), 1.0])
    count, total, tasks = strategy.reduce("SUM", strategy.run(lambda: own), axis=None).numpy()
    config.report(met_at=time.time())
    if config.task_type == "chief":
        config.report(count=count, total=total, tasks=tasks)
        export(tf, config, tf.constant([total, 0.0]))


def begin_counting(config):
    """Begin a cluster that counts up a variable on a parameter server, from the last checkpoint if there is one.

    The chief alone writes checkpoints. By default the servers would write too, on their machines, where they may be
    other users: TensorFlow makes directories that only their owner may write to.

    Returns:
      (coordinator, count, function that saves a checkpoint of a number).
    """
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        count = tf.Variable(0.0)
    checkpoint = tf.train.Checkpoint(count=count)
    manager = tf.train.CheckpointManager(checkpoint, config.checkpoint_dir, max_to_keep=2)
    checkpoint.restore(manager.latest_checkpoint)
    options = tf.train.CheckpointOptions(experimental_io_device="/job:chief")
    return coordinator, count, lambda number: manager.save(number, options=options)

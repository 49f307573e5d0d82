"""Script that learns handwritten digits with dense layers, without Keras: alone, or with parameter servers."""

import os

import numpy as np

FULL_INK = 16.0
HIDDEN = 64
BATCH = 32
LEARNING_RATE = 0.1


def alone(config):
    """Train in one process."""
    import tensorflow as tf

    model = Model(tf)
    batches = iter(training_batches(tf, config))
    step = tf.function(model.step)
    for _ in range(config.user_params["steps"]):
        step(*next(batches))
    finish(tf, config, model)


def parameter_servers(config):
    """Train by ParameterServerStrategy: the chief coordinates, workers compute steps, servers hold the variables."""
    import tensorflow as tf

    if config.task_type != "chief":
        config.serve()
        return
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    with strategy.scope():
        model = Model(tf)
    servers = {variable.device for variable in model.variables}
    assert servers == {"/job:ps/replica:0/task:{}/device:CPU:0".format(index) for index in range(2)}, servers
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    batches = iter(coordinator.create_per_worker_dataset(lambda: training_batches(tf, config)))

    @tf.function
    def step(batches):
        image, label = next(batches)
        model.step(image, label)
        # The id of the process that computes this. The name depends on the data, so that no constant folding happens.
        nothing = tf.strings.substr(tf.strings.as_string(label[0]), 0, 0)
        return tf.io.read_file(tf.strings.join(["/proc/self/stat", nothing]))

    done = [coordinator.schedule(step, args=(batches,)) for _ in range(config.user_params["steps"])]
    coordinator.join()
    processes = [value.split()[0] for value in coordinator.fetch(done)]
    config.report(workers=len(set(processes)), fewest=min(processes.count(process) for process in processes))
    assert str(os.getpid()).encode() not in processes
    finish(tf, config, model)


def training_batches(tf, config):
    """Return endless batches of (image, label) of the rows for training."""
    from beam_tfscript.runtime import get_config

    spec = get_config().feature_spec
    data = tf.data.TFRecordDataset(config.dataset_files).batch(256)
    data = data.map(lambda records: tf.io.parse_example(records, spec)).unbatch()
    data = data.filter(lambda row: row["training"] != 0).shuffle(2000, seed=1).repeat().batch(BATCH)
    return data.map(lambda row: (row["image"] / FULL_INK, row["label"]))


class Model(object):
    """Model: 64 pixels -> a hidden layer -> 10 digits."""

    def __init__(self, tf):
        random = np.random.RandomState(1)
        self._tf = tf
        self.variables = [
            tf.Variable(random.normal(scale=0.1, size=shape).astype(np.float32))
            for shape in ((64, HIDDEN), (HIDDEN,), (HIDDEN, 10), (10,))
        ]

    def __call__(self, image):
        tf = self._tf
        kernel, bias, kernel_out, bias_out = self.variables
        hidden = tf.nn.relu(tf.reshape(image, [-1, 64]) @ kernel + bias)
        return hidden @ kernel_out + bias_out

    def step(self, image, label):
        """Do one step of gradient descent."""
        tf = self._tf
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=self(image))
            loss = tf.reduce_mean(losses)
        for variable, gradient in zip(self.variables, tape.gradient(loss, self.variables)):
            variable.assign_sub(LEARNING_RATE * gradient)


def finish(tf, config, model):
    """Report the accuracy on the rows that were held out, and export."""
    seen = right = 0
    data = tf.data.TFRecordDataset(config.dataset_files).batch(512)
    for records in data:
        rows = tf.io.parse_example(records, config.feature_spec)
        unseen = rows["training"].numpy() == 0
        guessed = model(rows["image"] / FULL_INK).numpy().argmax(axis=1)
        seen += unseen.sum()
        right += (guessed == rows["label"].numpy())[unseen].sum()
    config.report(accuracy=right / float(seen), seen=seen)
    module = tf.Module()
    module.weights = [tf.Variable(variable.numpy()) for variable in model.variables]
    still = Model(tf)
    still.variables = module.weights
    module.serve = tf.function(
        lambda image: {"digit": tf.argmax(still(image), axis=1)},
        input_signature=[tf.TensorSpec([None, 8, 8], tf.float32, name="image")],
    )
    tf.saved_model.save(module, config.saved_model_dir, signatures={"serving_default": module.serve})

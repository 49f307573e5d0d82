"""Script that scores rows with a Keras model: columns `id` and `x` in, `id` and `score` out.

The same model and batches as in `plain.py`, as a script for RunTFScript.
"""

import tensorflow as tf


def main(config):
    """Score the run's rows batch by batch."""
    model = tf.keras.models.load_model(config.user_params["model"])

    @tf.function
    def score(x):
        return model(x, training=False)[:, 0]

    for batch in config.dataset(batch_size=config.user_params["batch_size"]):
        config.write_batch(id=batch["id"], score=score(batch["x"]))

"""Script that scores rows as `score.py` does, for feed="bundles": one loop over the batches of all bundles."""

import tensorflow as tf


def main(config):
    """Score batch by batch, while rows come."""
    model = tf.keras.models.load_model(config.user_params["model"])

    @tf.function(reduce_retracing=True)
    def score(x):
        return model(x, training=False)[:, 0]

    for batch in config.batches(config.user_params["batch_size"]):
        config.write_batch(id=batch["id"], score=score(tf.constant(batch["x"])))

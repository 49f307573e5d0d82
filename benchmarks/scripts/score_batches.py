"""Scores rows as `score.py` does, for the feed `bundles`: batches that go on from bundle to bundle."""

import tensorflow as tf


def main(config):
    """Scores batch by batch, for as long as rows come."""
    model = tf.keras.models.load_model(config.user_params["model"])

    @tf.function(reduce_retracing=True)
    def score(x):
        return model(x, training=False)[:, 0]

    for batch in config.batches(config.user_params["batch_size"]):
        config.write_batch(id=batch["id"], score=score(tf.constant(batch["x"])))

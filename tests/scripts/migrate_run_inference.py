"""What a model handler of Beam's RunInference becomes: docs/migrate.md."""

import tensorflow as tf


def main(config):
    model = tf.saved_model.load(config.user_params["model"])
    for batch in config.batches(512):
        config.write_batch(id=batch["id"], y=model.serve(batch["x"])["y"])

"""What a map_fun of TensorFlowOnSpark becomes: docs/migrate.md."""

import tensorflow as tf


def main(config):
    serve = tf.saved_model.load(config.user_params["model"]).signatures["serving_default"]
    for batch in config.batches(512):
        y = serve(x=tf.constant(batch["x"], tf.float32))["y"].numpy()
        config.write_batch(id=batch["id"], y=y)

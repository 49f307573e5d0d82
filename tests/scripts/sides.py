"""Scripts with side inputs."""


def join(config):
    """Write each row with its word in the side input."""
    import tensorflow as tf

    words = {}
    for batch in config.side_batches("words", 100):
        words.update(zip(batch["id"], batch["word"]))
    assert set(config.side_files) == {"words"}
    if tf.executing_eagerly():
        assert sum(1 for _ in config.side_dataset("words")) == len(words)
    for batch in config.batches(10):
        config.write_batch(id=batch["id"], word=[words[name] for name in batch["id"]])


def weight(config):
    """Score with the model that another transform has trained; its row has the model's path."""
    import tensorflow as tf

    (model,) = config.side_batches("model", 1)
    serve = tf.saved_model.load(model["uri"][0].decode()).signatures["serving_default"]
    for batch in config.batches(10):
        config.write_batch(id=batch["id"], y=serve(x=tf.constant(batch["x"]))["y"])


def missing(config):
    """Ask for a missing side input."""
    config.side_dataset("nothing")


def double(config):
    """Export a model that doubles."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x):
        return {"y": 2 * x}

    module.serve = serve
    tf.saved_model.save(module, config.saved_model_dir, signatures={"serving_default": serve})


def show(config):
    """Write the only row of the side input."""
    with open(config.side_files["words"], "rb") as file:
        config.write(word=file.read()[12:-4])

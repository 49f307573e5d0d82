"""Scripts that are given side inputs."""


def join(config):
    """Each row with the word that the side input has for it, and with what the side input is."""
    words = {}
    for batch in config.side_batches("words", 100):
        words.update(zip(batch["id"], batch["word"]))
    assert set(config.side_files) == {"words"}
    records = sum(1 for _ in config.side_dataset("words"))
    assert records == len(words)
    for batch in config.batches(10):
        config.write_batch(id=batch["id"], word=[words[name] for name in batch["id"]])


def weight(config):
    """Scores with the model that another transform has trained, by the row it gave."""
    import tensorflow as tf

    (model,) = config.side_batches("model", 1)
    serve = tf.saved_model.load(model["uri"][0].decode()).signatures["serving_default"]
    for batch in config.batches(10):
        config.write_batch(id=batch["id"], y=serve(x=tf.constant(batch["x"]))["y"])


def missing(config):
    """Asks for a side input that is not there."""
    config.side_dataset("nothing")


def double(config):
    """Exports a model that doubles."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(x):
        return {"y": 2 * x}

    module.serve = serve
    tf.saved_model.save(module, config.saved_model_dir, signatures={"serving_default": serve})


def show(config):
    """The only row of the side input, whatever it is."""
    with open(config.side_files["words"], "rb") as file:
        config.write(word=file.read()[12:-4])

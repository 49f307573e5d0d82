"""Reads rows that may be in several files, in every way that a script has."""

import os


def count_ways(config):
    import tensorflow as tf

    ways = {
        "parts": read(tf, config.dataset_parts),
        "batches": [name for batch in config.batches(100) for name in batch["id"].tolist()],
        "examples": [id_of(tf, record) for records in config.example_batches(100) for record in records],
        "tensors": [name for batch in tensors(tf, config) for name in batch],
        "file": read(tf, [config.dataset_file]),
        "dict": read(tf, [config.__dict__["dataset_file"]]),
    }
    for way, names in sorted(ways.items()):
        config.write(way=way, shard=config.shard, rows=len(names), distinct=len(set(names)), parts=count_parts(config))
        assert len(names) == config.dataset_length


def count_parts(config):
    return len(config.dataset_parts)


def read(tf, paths):
    return [id_of(tf, record) for path in paths for record in tf.compat.v1.io.tf_record_iterator(path)]


def id_of(tf, record):
    return tf.train.Example.FromString(record).features.feature["id"].bytes_list.value[0]


def tensors(tf, config):
    dataset = config.dataset(100)
    if tf.executing_eagerly():
        for batch in dataset:
            yield batch["id"].numpy().tolist()
        return
    following = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()["id"]
    with tf.compat.v1.Session() as session:
        while True:
            try:
                yield session.run(following).tolist()
            except tf.errors.OutOfRangeError:
                return


def sizes(config):
    """Without TensorFlow: the files and their sizes."""
    for path in config.dataset_parts:
        size = os.path.getsize(path)
        config.write(shard=config.shard, attempt=config.attempt, path=os.path.basename(path), size=size)
    if config.attempt <= (config.user_params or {}).get("failures", 0):
        raise ValueError("this attempt fails")


def train(config):
    """Write what it has seen as a model that is no model of TensorFlow's, but loads as one."""
    import tensorflow as tf

    names = [id_of(tf, record) for path in config.dataset_files for record in tf.compat.v1.io.tf_record_iterator(path)]
    config.report(rows=len(names), distinct=len(set(names)))
    module = tf.Module()
    module.score = tf.function(lambda x: x, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, config.saved_model_dir)

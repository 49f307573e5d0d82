"""Script that needs each Dataset to be of its TensorFlow's own class. Python 3.6 syntax.

In TensorFlow 1 such a Dataset has methods that make iterators for sessions, and so has what is made of it.
"""

import tensorflow as tf


def main(config):
    """Check all Datasets of the config, and write the ids by the Dataset that `user_params` names for this shard."""
    name_read = config.user_params["reads"][config.shard]
    given = datasets(config)
    for name, dataset in sorted(given.items()):
        check(name, dataset)
        check(name + " mapped", dataset.map(lambda element: element))
        check(name + " batched", dataset.batch(2))
        check(name + " in a chain", dataset.map(lambda element: element).shuffle(2).batch(2).repeat(1).prefetch(1))
    parsed = given[name_read]
    if tf.compat.v1.data.get_output_types(parsed) == tf.string:
        parsed = parsed.batch(2).map(lambda records: tf.io.parse_example(records, config.feature_spec))
    for ids in read(parsed.map(lambda batch: batch["id"])):
        config.write_batch(id=ids, name=[name_read] * len(ids))


def datasets(config):
    """Return name -> Dataset, for the run's feed."""
    from akdl.engine.inputs import get_dataset

    made = {
        "dataset": config.dataset(2),
        "flink_stream_dataset": config.tf_context.flink_stream_dataset(),
        "get_dataset": get_dataset(
            config.feature_spec, config.tf_context.flink_stream_dataset, "label", batch_size=2, num_epochs=1
        ).map(lambda features, label: features),
        "side": config.side_dataset("side"),
        "side parsed": config.side_dataset("side", 2),
    }
    if hasattr(config, "dataset_fn"):
        made["dataset_fn"] = config.dataset_fn()
    return made


def of_bundles(config):
    """Do the same with the Datasets of bundles."""
    for dataset in config.datasets():
        check("datasets", dataset)
        parsed = dataset.batch(2).map(lambda records: tf.io.parse_example(records, config.feature_spec)["id"])
        check("datasets parsed", parsed)
        for ids in read(parsed):
            config.write_batch(id=ids, name=["datasets"] * len(ids))


def check(name, dataset):
    """Raise unless the Dataset is of the class that TensorFlow's own functions return."""
    assert isinstance(dataset, tf.data.Dataset), "{} is {!r}".format(name, dataset)
    for method in ("make_one_shot_iterator", "make_initializable_iterator"):
        assert hasattr(dataset, method) == hasattr(tf.data.Dataset, method), "{} of {}".format(method, name)


def read(dataset):
    """Yield the elements as arrays, by the usual way in this TensorFlow."""
    if not hasattr(dataset, "make_one_shot_iterator"):
        for element in dataset:
            yield element.numpy()
        return
    following = dataset.make_one_shot_iterator().get_next()
    iterator = dataset.take(0).make_initializable_iterator()
    with tf.compat.v1.Session() as session:
        session.run(iterator.initializer)
        while True:
            try:
                yield session.run(following)
            except tf.errors.OutOfRangeError:
                return

"""Scripts for the feeds `bundles` and `stream`: each entry is a way to read rows, or to misread them."""

import os
import signal
import time


def batches(config):
    """Gives each row back, with where it was read."""
    for number, batch in enumerate(config.batches(config.user_params.get("n", 16))):
        rows = len(batch["id"])
        config.write_batch(
            id=batch["id"], batch=[number] * rows, rows=[rows] * rows, pid=[os.getpid()] * rows,
            window=[place(config)] * rows, attempt=[config.attempt] * rows,
        )  # fmt: skip


def place(config):
    """The run's window as text."""
    return "" if config.window is None else "{:g}-{:g}".format(*config.window)


def datasets(config):
    """The same, a bundle at a time, in graph mode."""
    import tensorflow as tf

    feeds = config.datasets()
    number = 0
    while True:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            dataset = next(feeds, None)
            if dataset is None:
                return
            assert config.dataset_length == len(list(tf.compat.v1.io.tf_record_iterator(config.dataset_file)))
            parsed = dataset.batch(7).map(lambda records: tf.io.parse_example(records, config.feature_spec)["id"])
            following = tf.compat.v1.data.make_one_shot_iterator(parsed).get_next()
            while True:
                try:
                    ids = session.run(following)
                except tf.errors.OutOfRangeError:
                    break
                rows = len(ids)
                config.write_batch(
                    id=ids, batch=[number] * rows, rows=[config.dataset_length] * rows, pid=[os.getpid()] * rows,
                    window=[place(config)] * rows, attempt=[config.attempt] * rows,
                )  # fmt: skip
        number += 1


def dataset_fn(config):
    """Each record of the open-ended Dataset, as it comes; then a second pass, which is empty."""
    import tensorflow as tf

    for record in config.dataset_fn():
        example = tf.train.Example.FromString(record.numpy())
        write_one(config, example.features.feature["id"].bytes_list.value[0])
    assert list(config.dataset_fn()) == []


def parsed_dataset(config):
    """The parsed Dataset."""
    for batch in config.dataset(config.user_params.get("n", 4)):
        for name in batch["id"].numpy():
            write_one(config, name)


def write_one(config, name):
    config.write(id=name, batch=0, rows=1, pid=os.getpid(), window=place(config), attempt=config.attempt)


def count(config):
    """One row at the end: how many there were."""
    rows = sum(len(records) for records in config.example_batches(8))
    write_one(config, "{} rows".format(rows))


def returns_early(config):
    """Leaves the rest unread."""
    for batch in config.batches(8):
        config.write_batch(id=batch["id"], batch=[0] * 8, rows=[8] * 8, pid=[0] * 8, window=[""] * 8, attempt=[1] * 8)
        return


def stops(config):
    """Asks for the end after some rows."""
    for number, batch in enumerate(config.batches(8)):
        for name in batch["id"]:
            write_one(config, name)
        if number == 1:
            config.stop()


def never_reads(config):
    """Waits for something else."""
    time.sleep(600)


def kills_itself_at(config):
    """Dies in the middle of the batch that holds the row, as often as it is told to."""
    name, times = config.user_params["id"].encode(), config.user_params["times"]
    for number, batch in enumerate(config.batches(config.user_params.get("n", 8))):
        rows = len(batch["id"])
        config.write_batch(
            id=batch["id"], batch=[number] * rows, rows=[rows] * rows, pid=[os.getpid()] * rows,
            window=[place(config)] * rows, attempt=[config.attempt] * rows,
        )  # fmt: skip
        if name in batch["id"] and marked(config.user_params["marks"]) < times:
            config.output_writer.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def marked(path):
    """How many marks are in a file; adds one."""
    with open(path, "a+") as marks:
        marks.seek(0)
        count = len(marks.read())
        marks.write("x")
    return count


def mixes_units(config):
    """Asks for rows in two ways."""
    next(config.datasets())
    next(config.batches(4))


def asks_for_a_stream(config):
    """What only the feed `stream` has."""
    config.dataset_fn()

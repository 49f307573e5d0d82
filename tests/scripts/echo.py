"""Scripts that return their input; each entry function does so in another way."""

import os
import sys


def main(config):
    """Write each input column that the output schema has, batch by batch."""
    names = config.output_schema.names
    for batch in config.batches(100):
        config.write_batch(**{name: batch[name] for name in names})


def echo_file(config):
    """Write the records of dataset_file as they are."""
    import tensorflow as tf

    count = 0
    for record in tf.compat.v1.io.tf_record_iterator(config.dataset_file):
        config.output_writer.write(record)
        count += 1
    assert count == config.dataset_length


def echo_messages(config):
    """Write the records of dataset_file as tf.train.Example messages."""
    import tensorflow as tf

    for record in tf.compat.v1.io.tf_record_iterator(config.dataset_file):
        config.output_writer.write(tf.train.Example.FromString(record))


def describe(config):
    """Write one row about the run."""
    window = config.window
    config.write(
        shard=config.shard,
        num_shards=config.num_shards,
        rows=config.dataset_length,
        attempt=config.attempt,
        pid=os.getpid(),
        window="" if window is None else "{:g}-{:g}".format(*window),
    )


def list_ids(config):
    """Write each row's shard and window."""
    window = "" if config.window is None else "{:g}-{:g}".format(*config.window)
    for batch in config.batches(100):
        n = len(batch["id"])
        config.write_batch(id=batch["id"], shard=[config.shard] * n, window=[window] * n)


def show_arguments(config):
    """Write the transform's arguments that the script can see, as JSON."""
    import json

    import tensorflow as tf

    from beam_tfscript.runtime import get_config
    from beam_tfscript.runtime.config.tf_context import TFContext

    assert get_config() is config
    assert config.tf_context is TFContext.get_or_create()
    config.write(
        text=json.dumps(
            {
                "argv": sys.argv,
                "params": config.user_params,
                "cwd": os.getcwd(),
                "path0": sys.path[0],
                "files": sorted(os.listdir(".")),
                "omp": os.environ.get("OMP_NUM_THREADS"),
                "intra": tf.config.threading.get_intra_op_parallelism_threads(),
                "color": os.environ.get("COLOR"),
                "work_dir": config.work_dir,
                "tf_config": os.environ.get("TF_CONFIG"),
                "cluster": config.cluster,
                "task": [config.task_type, config.task_index],
                "spec": sorted(config.feature_spec),
                "spec_without_x": sorted(config.feature_spec(exclude=["x"])),
                "columns": str(config.input_schema),
            }
        )
    )


def use_modules(config):
    """Write a row from a module beside the script, and one from inside an archive."""
    import beside
    from packed.inner import VALUE

    with open("vocab.txt") as vocabulary:
        config.write(text="{} {} {}".format(beside.VALUE, VALUE, vocabulary.read().strip()))


def metrics_and_logs(config):
    """Use counters, distributions, prints and log records."""
    import logging

    print("printed by shard", config.shard)
    sys.stderr.write("to stderr\n")
    logging.warning("logged %s", "a warning")
    logging.getLogger("mine").error("two\nlines")
    config.counter("seen").inc(config.dataset_length)
    for value in (1, 5, 9):
        config.distribution("sizes").update(value)
    sys.stdout.write("no line end")


def write_nothing(config):
    """Read all rows, and write none."""
    assert sum(len(batch["id"]) for batch in config.batches(7)) == config.dataset_length


def echo_typed(config):
    """Write each column from numpy arrays, with its nulls."""
    for batch in config.batches(3, masks=True):
        columns = {}
        for column in config.output_schema:
            values, present = batch[column.name], batch.get(column.mask_name)
            if present is not None:
                values = [value if here else None for value, here in zip(values, present)]
            columns[column.name] = values
        config.write_batch(**columns)


def echo_rows(config):
    """Write each column from numpy arrays, row by row."""
    names = config.output_schema.names
    for batch in config.batches(3, masks=True):
        masks = [batch.get(column.mask_name) for column in config.output_schema]
        for index in range(len(batch[names[0]])):
            config.write(
                **{
                    name: batch[name][index] if mask is None or mask[index] else None
                    for name, mask in zip(names, masks)
                }
            )


def echo_records(config):
    """Write the records as they are, without TensorFlow."""
    import struct

    with open(config.dataset_file, "rb") as records:
        while True:
            head = records.read(12)
            if not head:
                break
            config.output_writer.write(records.read(struct.unpack("<Q", head[:8])[0]))
            records.read(4)


def count_steps(config):
    """Write the number of steps of each SequenceExample."""
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(config.dataset_file):
        lists = tf.train.SequenceExample.FromString(record.numpy()).feature_lists.feature_list
        config.write(steps=len(lists["steps"].feature))

"""Scripts that give back what they get, one entry function a way of doing so."""
import os
import sys


def main(config):
    """Every column of the input schema that the output schema has, batch by batch."""
    names = config.output_schema.names
    for batch in config.batches(100):
        config.write_batch(**{name: batch[name] for name in names})


def echo_file(config):
    """The records of dataset_file as they are."""
    import tensorflow as tf

    dataset = tf.data.TFRecordDataset(config.dataset_file)
    count = 0
    for record in tf.compat.v1.data.make_one_shot_iterator(dataset) if not tf.executing_eagerly() else dataset:
        config.output_writer.write(record.numpy())
        count += 1
    assert count == config.dataset_length


def echo_messages(config):
    """The records of dataset_file as tf.train.Example messages."""
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(config.dataset_file):
        config.output_writer.write(tf.train.Example.FromString(record.numpy()))


def describe(config):
    """One row about the run itself."""
    window = config.window
    config.write(
        shard=config.shard, num_shards=config.num_shards, rows=config.dataset_length, attempt=config.attempt,
        pid=os.getpid(), window="" if window is None else "{:g}-{:g}".format(*window))


def list_ids(config):
    """The shard and window that each row was in."""
    window = "" if config.window is None else "{:g}-{:g}".format(*config.window)
    for batch in config.batches(100):
        n = len(batch["id"])
        config.write_batch(id=batch["id"], shard=[config.shard] * n, window=[window] * n)


def show_arguments(config):
    """What the script can see of the arguments, as JSON."""
    import json

    import tensorflow as tf

    from beam_tfscript.runtime import get_config
    from beam_tfscript.runtime.context import TFContext

    assert get_config() is config
    assert config.tf_context is TFContext.get_or_create()
    config.write(text=json.dumps({
        "argv": sys.argv, "params": config.user_params, "cwd": os.getcwd(), "path0": sys.path[0],
        "files": sorted(os.listdir(".")), "omp": os.environ.get("OMP_NUM_THREADS"),
        "intra": tf.config.threading.get_intra_op_parallelism_threads(), "color": os.environ.get("COLOR"),
        "work_dir": config.work_dir, "tf_config": os.environ.get("TF_CONFIG"), "cluster": config.cluster,
        "task": [config.task_type, config.task_index], "spec": sorted(config.feature_spec),
        "spec_without_x": sorted(config.feature_spec(exclude=["x"])), "columns": str(config.input_schema),
    }))


def use_modules(config):
    """A row from a module beside the script and one from inside an archive."""
    import beside
    from packed.inner import VALUE

    with open("vocab.txt") as vocabulary:
        config.write(text="{} {} {}".format(beside.VALUE, VALUE, vocabulary.read().strip()))


def metrics_and_logs(config):
    """Counters, distributions, prints and log records."""
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
    """Reads all, writes nothing."""
    assert sum(len(batch["id"]) for batch in config.batches(7)) == config.dataset_length

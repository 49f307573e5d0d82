"""Scripts for unbounded input: they return each row with its run, and its position in the run."""

import os
import signal
import time
import uuid


def trace(config):
    """Write each row in the order of arrival, then one row with their number."""
    run = Run(config)
    for names in _batches(config, 16):
        run.give(names)
    run.end()


def trace_records(config):
    """Write the same rows, by the open-ended Dataset."""
    import tensorflow as tf

    if not tf.executing_eagerly():
        # TensorFlow 1 needs a session to iterate over a Dataset.
        tf.compat.v1.enable_eager_execution()
    run = Run(config)
    for record in config.dataset_fn():
        run.give([tf.train.Example.FromString(record.numpy()).features.feature["id"].bytes_list.value[0]])
    run.end()


def dies_at(config):
    """Be killed while the row `id` is not done, in as many runs as `times` says."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if config.user_params["id"].encode() in names and _mark(config) <= config.user_params["times"]:
            config.output_writer.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    run.end()


def raises_at(config):
    """Raise while the row `id` is not done, in as many runs as `times` says."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if config.user_params["id"].encode() in names and _mark(config) <= config.user_params["times"]:
            raise ValueError("cannot take " + config.user_params["id"])
    run.end()


def stops_at(config):
    """Stop the feed after the row `id`."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if config.user_params["id"].encode() in names:
            config.stop()
    run.end()


def slow(config):
    """Sleep with each row."""
    run = Run(config)
    for names in _batches(config, 1):
        time.sleep(config.user_params["seconds"])
        run.give(names)
    run.end()


def leaves_early(config):
    """Return with the second row."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if run.count == 2:
            return


class Run(object):
    """Run that writes one row per input row."""

    def __init__(self, config):
        self.count = 0
        self._config = config
        self._name = uuid.uuid4().hex

    def give(self, names):
        """Write rows; at the first row, note the process in a directory."""
        directory = self._config.user_params.get("pids")
        if directory and not self.count:
            with open(os.path.join(directory, str(os.getpid())), "w"):
                pass
        for name in names:
            self._write(name)
            self.count += 1

    def end(self):
        """Write the number of rows."""
        self._write("end")

    def _write(self, name):
        config = self._config
        config.write(
            id=name, place=self.count, run=self._name, pid=os.getpid(), shard=config.shard, attempt=config.attempt,
            run_window="" if config.window is None else "{:g}-{:g}".format(*config.window),
        )  # fmt: skip


def _batches(config, n):
    """Yield the ids of each batch; with `raw`, without TensorFlow, whose import takes seconds."""
    n = config.user_params.get("n", n)
    if config.user_params.get("raw"):
        for records in config.example_batches(n):
            yield [_id_of(record) for record in records]
    else:
        for batch in config.batches(n):
            yield list(batch["id"])


def _id_of(record):
    """Return the value of an Example whose only feature is `id`."""
    at = 0
    for level in ("features", "entry", "id", "feature", "bytes_list", "value"):
        at += 1  # the field's number
        length = shift = 0
        while True:
            byte = record[at]
            length |= (byte & 127) << shift
            shift += 7
            at += 1
            if byte < 128:
                break
        if level == "id":
            at += length
    assert at + length == len(record), record
    return record[at:]


def _mark(config):
    """Return the number of calls so far, in all processes."""
    with open(config.user_params["marks"], "a+") as marks:
        marks.write("x")
        marks.flush()
        return marks.tell()


def keeps_from(config):
    """Write rows up to the one that begins with `id`; in the first run, hold that row, and note this."""
    run = Run(config)
    for names in _batches(config, 1):
        if names[0].startswith(config.user_params["id"].encode()) and config.attempt == 1:
            with open(config.user_params["noted"] + ".part", "w") as noted:
                noted.write(str(os.getpid()))
            os.rename(config.user_params["noted"] + ".part", config.user_params["noted"])
            time.sleep(600)
        run.give(names)
    run.end()


def notes_size(config):
    """Note the length of the first row's id."""
    run = Run(config)
    for names in _batches(config, 1):
        with open(config.user_params["noted"], "w") as noted:
            noted.write(str(len(names[0])))
    run.end()


def leaves_a_child(config):
    """Leave a child behind that has all its parent's descriptors open."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if os.fork() == 0:
            with open(config.user_params["noted"], "w") as noted:
                noted.write(str(os.getpid()))
            time.sleep(600)
            os._exit(0)


def fails_at_the_end(config):
    """Raise when all rows are done, with another message each time."""
    run = Run(config)
    for names in _batches(config, 16):
        run.give(names)
    raise ValueError("failure {} with {} rows".format(_mark(config), run.count))

"""Scripts for unbounded input: each row is given back with the run that had it, and its place in that run."""

import os
import signal
import time
import uuid


def trace(config):
    """Each row in the order of its coming, then one row that says how many they were."""
    run = Run(config)
    for names in _batches(config, 16):
        run.give(names)
    run.end()


def trace_records(config):
    """The same by way of the open-ended Dataset."""
    import tensorflow as tf

    if not tf.executing_eagerly():
        # TensorFlow 1 iterates over a Dataset in a session, unless it is told so.
        tf.compat.v1.enable_eager_execution()
    run = Run(config)
    for record in config.dataset_fn():
        run.give([tf.train.Example.FromString(record.numpy()).features.feature["id"].bytes_list.value[0]])
    run.end()


def dies_at(config):
    """Is killed while it has the row `id`, for as many runs as `times` says."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if config.user_params["id"].encode() in names and _mark(config) <= config.user_params["times"]:
            config.output_writer.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    run.end()


def raises_at(config):
    """Raises while it has the row `id`, for as many runs as `times` says."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if config.user_params["id"].encode() in names and _mark(config) <= config.user_params["times"]:
            raise ValueError("cannot take " + config.user_params["id"])
    run.end()


def stops_at(config):
    """Asks for the end when it has seen the row `id`."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if config.user_params["id"].encode() in names:
            config.stop()
    run.end()


def slow(config):
    """Takes its time for each row."""
    run = Run(config)
    for names in _batches(config, 1):
        time.sleep(config.user_params["seconds"])
        run.give(names)
    run.end()


def leaves_early(config):
    """Returns with the second row."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if run.count == 2:
            return


class Run(object):
    """Writes a row for each that it is given."""

    def __init__(self, config):
        self.count = 0
        self._config = config
        self._name = uuid.uuid4().hex

    def give(self, names):
        """Gives rows back; with the first of them, the process notes itself in a directory."""
        directory = self._config.user_params.get("pids")
        if directory and not self.count:
            with open(os.path.join(directory, str(os.getpid())), "w"):
                pass
        for name in names:
            self._write(name)
            self.count += 1

    def end(self):
        """Says how many rows there were."""
        self._write("end")

    def _write(self, name):
        config = self._config
        config.write(
            id=name, place=self.count, run=self._name, pid=os.getpid(), shard=config.shard, attempt=config.attempt,
            run_window="" if config.window is None else "{:g}-{:g}".format(*config.window),
        )  # fmt: skip


def _batches(config, n):
    """The ids of each batch; where `raw` is given, without TensorFlow, which takes seconds to come up."""
    n = config.user_params.get("n", n)
    if config.user_params.get("raw"):
        for records in config.example_batches(n):
            yield [_id_of(record) for record in records]
    else:
        for batch in config.batches(n):
            yield list(batch["id"])


def _id_of(record):
    """The one value of an Example whose one feature is `id`."""
    at = 0
    for what in ("features", "entry", "id", "feature", "bytes_list", "value"):
        at += 1  # the field's number
        length = shift = 0
        while True:
            byte = record[at]
            length |= (byte & 127) << shift
            shift += 7
            at += 1
            if byte < 128:
                break
        if what == "id":
            at += length
    assert at + length == len(record), record
    return record[at:]


def _mark(config):
    """How often this was called, in whatever process."""
    with open(config.user_params["marks"], "a+") as marks:
        marks.write("x")
        marks.flush()
        return marks.tell()


def keeps_from(config):
    """Gives rows back until the one that begins with `id`; keeps that in its first life, and notes that it has it."""
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
    """Notes how long the first row's id is."""
    run = Run(config)
    for names in _batches(config, 1):
        with open(config.user_params["noted"], "w") as noted:
            noted.write(str(len(names[0])))
    run.end()


def leaves_a_child(config):
    """Leaves a child behind that has a copy of all that its parent has open."""
    run = Run(config)
    for names in _batches(config, 1):
        run.give(names)
        if os.fork() == 0:
            with open(config.user_params["noted"], "w") as noted:
                noted.write(str(os.getpid()))
            time.sleep(600)
            os._exit(0)


def fails_at_the_end(config):
    """Raises when all rows are done, each time something else."""
    run = Run(config)
    for names in _batches(config, 16):
        run.give(names)
    raise ValueError("failure {} with {} rows".format(_mark(config), run.count))

"""Scripts for unbounded input: each row is given back with the run that had it, and its place in that run."""

import os
import signal
import time
import uuid


def trace(config):
    """Each row in the order of its coming, then one row that says how many they were."""
    run = Run(config)
    for batch in config.batches(config.user_params.get("n", 16)):
        run.give(batch["id"])
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
    for batch in config.batches(config.user_params.get("n", 1)):
        run.give(batch["id"])
        if config.user_params["id"].encode() in batch["id"] and _mark(config) <= config.user_params["times"]:
            config.output_writer.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    run.end()


def raises_at(config):
    """Raises while it has the row `id`, for as many runs as `times` says."""
    run = Run(config)
    for batch in config.batches(1):
        run.give(batch["id"])
        if config.user_params["id"].encode() in batch["id"] and _mark(config) <= config.user_params["times"]:
            raise ValueError("cannot take " + config.user_params["id"])
    run.end()


def stops_at(config):
    """Asks for the end when it has seen the row `id`."""
    run = Run(config)
    for batch in config.batches(1):
        run.give(batch["id"])
        if config.user_params["id"].encode() in batch["id"]:
            config.stop()
    run.end()


def slow(config):
    """Takes its time for each row."""
    run = Run(config)
    for batch in config.batches(1):
        time.sleep(config.user_params["seconds"])
        run.give(batch["id"])
    run.end()


def leaves_early(config):
    """Returns with the second row."""
    run = Run(config)
    for batch in config.batches(1):
        run.give(batch["id"])
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


def _mark(config):
    """How often this was called, in whatever process."""
    with open(config.user_params["marks"], "a+") as marks:
        marks.write("x")
        marks.flush()
        return marks.tell()

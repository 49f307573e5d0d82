"""Clusters that get rows during the run, as scripts without TensorFlow: each task returns its rows."""

import os
import signal
import time


def give(config, records):
    """Write the rows as they came, each with its task."""
    for record in records:
        config.write(size=len(record), task="{}:{}".format(config.task_type, config.task_index))


def worker_waits_for_the_chief(config):
    """Let the worker read nothing until the chief has read all its rows, as a synchronous strategy may."""
    mark = config.user_params["mark"]
    is_chief = config.task_type == "chief"
    while not is_chief and not os.path.exists(mark):
        time.sleep(0.05)
    seen = 0
    for records in config.example_batches(100):
        give(config, records)
        seen += len(records)
        if is_chief and seen == config.user_params["rows"]:
            open(mark, "w").close()


def reads_late(config):
    """Sleep before reading."""
    time.sleep(config.user_params["seconds"])
    for records in config.example_batches(100):
        give(config, records)


def worker_raises_while_the_chief_goes_on(config):
    """Raise in the worker at the first attempt, while the chief acknowledges rows."""
    for records in config.example_batches(10):
        give(config, records)
        if config.task_type == "worker" and config.attempt == 1:
            raise ArithmeticError("as it was told to")
        time.sleep(config.user_params["seconds"])


def worker_stops(config):
    """Stop the feed in the worker after its first rows."""
    for records in config.example_batches(1):
        give(config, records)
        if config.task_type == "worker":
            config.stop()


def worker_leaves_a_child_and_dies(config):
    """Kill the worker, whose child lives on with all its descriptors open."""
    for records in config.example_batches(100):
        give(config, records)
        if config.task_type == "worker":
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)


def share_a_directory(config):
    """Write a file at a relative path in each task, and wait for the other task's file."""
    for records in config.example_batches(100):
        give(config, records)
    os.makedirs("checkpoints", exist_ok=True)
    name = os.path.join("checkpoints", "{}-{}")
    open(name.format(config.task_type, config.task_index), "w").close()
    deadline = time.time() + 20
    others = [("chief", 0), ("worker", 0)]
    while not all(os.path.exists(name.format(*other)) for other in others):
        assert time.time() < deadline, os.listdir("checkpoints")
        time.sleep(0.05)


def counts_parameters(config):
    """Write one row, if all parameters are there."""
    assert len(config.user_params["large"]) == 1 << 20
    give(config, [b""])

"""Gives each row back, and does at some rows what it is told to: die, raise, freeze, fork, close descriptors.

Needs no TensorFlow. A row's number is what stands behind `#` in its only value.
"""

import os
import re
import signal
import sys
import time

import feeds


def main(config):
    """Each row once; a fault happens in the middle of the batch that has its row, as often as it is to happen."""
    seen = config.counter("seen")
    for records in batches(config):
        numbers = [int(re.search(b"#([0-9]+)", record).group(1)) for record in records]
        half = len(numbers) // 2
        # Before the fault, so that a batch that is given again would count twice.
        seen.inc(len(numbers))
        write(config, numbers[:half])
        for number in numbers:
            for kind, seconds in due(config.user_params, number):
                config.output_writer.flush()
                FAULTS[kind](config, seconds)
        write(config, numbers[half:])


def batches(config):
    """The records, in whatever feed."""
    if config.feed is not None:
        for records in config.example_batches(config.user_params["batch"]):
            yield records
        return
    yield list(feeds.file_records(config))


def write(config, numbers):
    """The rows' numbers, with something behind them that takes room."""
    more = "y" * config.user_params["output_bytes"]
    config.write_batch(id=["#{}#{}".format(number, more) for number in numbers])


def due(params, number):
    """The faults at a row that have not happened yet: the next of them."""
    for at, kind, seconds in params["faults"].get(str(number), []):
        try:
            os.close(os.open(os.path.join(params["marks"], at), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        yield kind, seconds
        return


def kill(config, seconds):
    """As the system does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave(config, seconds):
    """Ends without a word."""
    os._exit(0)


def fail(config, seconds):
    """An error of the script."""
    raise ArithmeticError("as it was told to")


def freeze(config, seconds):
    """Stops for good."""
    os.kill(os.getpid(), signal.SIGSTOP)


def pause(config, seconds):
    """Stops, and is continued by a child some time later."""
    parent, child = os.getpid(), os.fork()
    if not child:
        while state(parent) != "T":
            time.sleep(0.01)
        time.sleep(seconds)
        os.kill(parent, signal.SIGCONT)
        os._exit(0)
    os.kill(parent, signal.SIGSTOP)
    os.waitpid(child, 0)


def state(pid):
    """What the system says of a process: `T` where it is stopped."""
    with open("/proc/{}/stat".format(pid)) as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def wait(config, seconds):
    """Takes its time."""
    time.sleep(seconds)


def fork(config, seconds):
    """Children that end in each way."""
    for end in (lambda: sys.exit(0), lambda: write(config, [0]), config.output_writer.flush, lambda: 1 // 0):
        child = os.fork()
        if not child:
            end()
            sys.exit(0)
        os.waitpid(child, 0)


def leave_child(config, seconds):
    """A child that has all open that its parent has, and stays."""
    if not os.fork():
        time.sleep(600)
        os._exit(0)


def close(config, seconds):
    """Closes what others have opened."""
    os.closerange(3, 256)


def scribble(config, seconds):
    """Writes to what others have opened."""
    for descriptor in range(3, 256):
        try:
            os.write(descriptor, b"BTFS" + b"\x00" * 60)
        except OSError:
            pass


FAULTS = {
    "kill": kill, "leave": leave, "fail": fail, "freeze": freeze, "pause": pause, "wait": wait, "fork": fork,
    "leave_child": leave_child, "close": close, "scribble": scribble,
}  # fmt: skip

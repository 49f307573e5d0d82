"""Script that returns each row, and fails at some rows: dies, raises, freezes, forks, or closes descriptors.

Needs no TensorFlow. A row's number follows `#` in its only value.
"""

import os
import re
import signal
import sys
import time

import feeds


def main(config):
    """Write each row once; a fault happens in the middle of its row's batch, as often as `user_params` says."""
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
    """Yield the records in any feed."""
    if config.feed is not None:
        for records in config.example_batches(config.user_params["batch"]):
            yield records
        return
    yield list(feeds.file_records(config))


def write(config, numbers):
    """Write the rows' numbers, followed by padding."""
    more = "y" * config.user_params["output_bytes"]
    config.write_batch(id=["#{}#{}".format(number, more) for number in numbers])


def due(params, number):
    """Return the next fault at a row that has not happened yet."""
    for at, kind, seconds in params["faults"].get(str(number), []):
        try:
            os.close(os.open(os.path.join(params["marks"], at), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        yield kind, seconds
        return


def kill(config, seconds):
    """Die as by the out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave(config, seconds):
    """Exit without a message."""
    os._exit(0)


def fail(config, seconds):
    """Raise an error."""
    raise ArithmeticError("as it was told to")


def freeze(config, seconds):
    """Stop forever."""
    os.kill(os.getpid(), signal.SIGSTOP)


def pause(config, seconds):
    """Stop; a child continues the process later."""
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
    """Return the state of a process from /proc: `T` if it is stopped."""
    with open("/proc/{}/stat".format(pid)) as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def wait(config, seconds):
    """Sleep."""
    time.sleep(seconds)


def fork(config, seconds):
    """Fork children that end in each way."""
    for end in (lambda: sys.exit(0), lambda: write(config, [0]), config.output_writer.flush, lambda: 1 // 0):
        child = os.fork()
        if not child:
            end()
            sys.exit(0)
        os.waitpid(child, 0)


def leave_child(config, seconds):
    """Fork a child that stays, with all descriptors of its parent open."""
    if not os.fork():
        time.sleep(600)
        os._exit(0)


def close(config, seconds):
    """Close descriptors that the script did not open."""
    os.closerange(3, 256)


def scribble(config, seconds):
    """Write to descriptors that the script did not open."""
    for descriptor in range(3, 256):
        try:
            os.write(descriptor, b"BTFS" + b"\x00" * 60)
        except OSError:
            pass


FAULTS = {
    "kill": kill, "leave": leave, "fail": fail, "freeze": freeze, "pause": pause, "wait": wait, "fork": fork,
    "leave_child": leave_child, "close": close, "scribble": scribble,
}  # fmt: skip

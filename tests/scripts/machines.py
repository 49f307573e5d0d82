"""Says on which machine each row was scored; without TensorFlow, which the feeds do not need."""

import hashlib
import os
import re
import signal
import struct

ID = re.compile(rb"row-\d{8}")


def where(config):
    for names in batches(config):
        write(config, names)


def dies_first(config):
    """Be killed at the first attempt, after some rows."""
    for names in batches(config):
        write(config, names)
        if config.attempt == 1:
            config.output_writer.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def waits(config):
    """Wait for a file that the test makes."""
    import time

    for names in batches(config):
        write(config, names)
        path = os.path.join(config.user_params["directory"], "reached-" + machine(config))
        open(path, "w").close()
        while not os.path.exists(config.user_params["go"]):
            time.sleep(0.05)


def count(config):
    """Write one row about the run's rows: their number, and the sum of their ids."""
    total = number = 0
    for names in batches(config):
        number += len(names)
        total += sum(int(name[4:]) for name in names)
    config.write(shard=config.shard, rows=number, total=total, machine=machine(config))


def files(config):
    """Write the hashes of user files, the interpreter, and what is installed in it."""
    import sys

    try:
        import tiny

        version = tiny.VERSION
    except ImportError:
        version = None
    for names in batches(config):
        with open(config.user_params["file"], "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        for name in names:
            config.write(id=name.decode(), digest=digest, python=sys.prefix, tiny=version, machine=machine(config))


def write(config, names):
    for name in names:
        config.write(id=name.decode(), shard=config.shard, attempt=config.attempt, machine=machine(config))


def machine(config):
    """The directory of temporary files is the machine's own."""
    return re.search(r"machine-\d+", config.work_dir).group()


def batches(config):
    """Lists of up to 100 ids."""
    records = read(config.dataset_parts) if hasattr(config, "dataset_parts") else flat(config.example_batches(100))
    names = []
    for record in records:
        names.append(ID.search(record).group())
        if len(names) == 100:
            yield names
            names = []
    if names:
        yield names


def flat(batches):
    for batch in batches:
        for record in batch:
            yield record


def read(paths):
    for path in paths:
        with open(path, "rb") as file:
            while True:
                head = file.read(12)
                if not head:
                    break
                yield file.read(struct.unpack("<Q", head[:8])[0])
                file.read(4)

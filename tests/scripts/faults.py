"""Scripts that fail; each entry function fails in another way."""

import os
import signal
import struct
import sys
import time


def _ids(config, n=10):
    for batch in config.batches(n) if "tensorflow" in sys.modules else _plain_batches(config, n):
        config.write_batch(id=batch["id"])
        yield batch


def _plain_batches(config, n):
    """Yield the batches of rows with a short id, read without TensorFlow."""
    ids = []
    with open(config.dataset_file, "rb") as records:
        for head in iter(lambda: records.read(12), b""):
            example = records.read(struct.unpack("<Q", head[:8])[0])
            records.read(4)
            # Keys and lengths take a byte each: Example, Features, entry, the key "id", Feature, BytesList, value.
            assert example[4:8] == b"\n\x02id" and example[13] == len(example) - 14, example
            ids.append(example[14:])
    assert len(ids) == config.dataset_length
    for begin in range(0, len(ids), n):
        yield {"id": ids[begin : begin + n]}


def raises(config):
    for batch in _ids(config):
        _divide(len(batch["id"]))


def _divide(n):
    return n / (n - n)


def exits_with_3(config):
    sys.exit(3)


def exits_with_0(config):
    list(_ids(config))
    sys.exit(0)


def ends_at_once(config):
    os._exit(7)


def kill_before_reading(config):
    sys.stderr.write("about to go\n")
    os.kill(os.getpid(), signal.SIGKILL)


def kill_between_batches(config):
    for _ in _ids(config):
        config.output_writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def kill_after_last_write(config):
    list(_ids(config))
    config.output_writer.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def kill_first_two_attempts(config):
    list(_ids(config))
    config.output_writer.flush()
    config.counter("tries").inc()
    if config.attempt < 3:
        os.kill(os.getpid(), signal.SIGKILL)


def raise_first_attempt(config):
    list(_ids(config))
    if config.attempt < 2:
        raise RuntimeError("not yet")


def segfault(config):
    import ctypes

    ctypes.string_at(0)


def exhaust_memory(config):
    with open(os.path.join(config.user_params["cgroup"], "cgroup.procs"), "w") as tasks:
        tasks.write(str(os.getpid()))
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20)))


def never_reads(config):
    config.write(id="one")


def returns_after_ten(config):
    for _ in _ids(config, 10):
        return


def prints_much(config):
    line = "x" * 999
    for _ in range(100 * 1000):
        print(line)
    list(_ids(config))


def _field(number, data):
    """Return a length-delimited field of a protocol buffer; lengths are below 128."""
    return bytes([number << 3 | 2, len(data)]) + data


def _example(**features):
    """Return a serialized tf.train.Example, made without TensorFlow."""
    entries = [_field(1, _field(1, name.encode()) + _field(2, feature)) for name, feature in sorted(features.items())]
    return _field(1, b"".join(entries))


def _bytes(value):
    return _field(1, _field(1, value))


def _floats(*values):
    return _field(2, _field(1, struct.pack("<%df" % len(values), *values)))


def _int64s(*values):
    return _field(3, _field(1, bytes(values)))


def missing_column(config):
    config.output_writer.write(_example(id=_bytes(b"a")))


def wrong_kind(config):
    config.output_writer.write(_example(id=_bytes(b"a"), score=_int64s(1)))


def two_values(config):
    config.output_writer.write(_example(id=_bytes(b"a"), score=_floats(1, 2)))


def good_and_garbage(config):
    config.write(id="good", score=1)
    config.output_writer.write(b"no Example at all")
    config.write(id="also good", score=2)


def wrong_column_name(config):
    config.write_batch(id=["a"], scor=[1.0])


def slow_reader(config):
    for _ in _ids(config, 20):
        time.sleep(0.05)


def writes_without_end(config):
    while True:
        config.write_batch(id=["x" * 1000] * 1000)


def silent(config):
    _sleep_here(4)
    config.write(id="done")


def _sleep_here(seconds):
    time.sleep(seconds)


def leaves_a_thread(config):
    import threading

    threading.Thread(target=time.sleep, args=(600,)).start()
    config.write(id="done")


def leaves_a_child(config):
    import subprocess

    child = subprocess.Popen(["sleep", "600"])
    config.write(id=str(child.pid))


def stays_alive(config):
    with open(config.user_params["started"], "w") as started:
        started.write(str(os.getpid()))
    while True:
        time.sleep(1)

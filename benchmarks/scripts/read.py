"""Script that reads its shard once by `config.dataset()`, and reports its memory."""

import tensorflow as tf


def read_memory_mib(field):
    """Return a field of /proc/self/status in MiB."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    raise ValueError(field)


# The runtime imports TensorFlow before it loads this script.
AFTER_IMPORT_MIB = read_memory_mib("VmRSS")


def main(config):
    """Count the rows, batch by batch."""
    rows = 0
    for batch in config.dataset(batch_size=config.user_params["batch_size"]):
        rows += int(tf.shape(batch["x"])[0])
    config.write(rows=rows, after_import_mib=AFTER_IMPORT_MIB, peak_mib=read_memory_mib("VmHWM"))

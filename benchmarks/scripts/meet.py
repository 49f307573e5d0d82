"""A task that meets the others of its cluster in one all-reduce and says when: in a pipeline, or started by hand.

    TF_CONFIG=… python meet.py FILE

Started by hand it writes to FILE what it else writes as a row: seconds since 1970 when TensorFlow was imported, and
when all had met, and how many tasks that were.
"""

import json
import sys
import time

import tensorflow as tf


def main(config):
    """In a pipeline."""
    config.write(**meet())


def meet():
    """Adds one for each task, over all of them."""
    imported_at = time.time()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    tasks = strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)
    return {"imported_at": repr(imported_at), "met_at": repr(time.time()), "tasks": int(tasks)}


if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        json.dump(meet(), file)

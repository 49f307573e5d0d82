"""Script of a task that meets its cluster's tasks in one all-reduce; runs in a pipeline, or by hand.

    TF_CONFIG=… python meet.py FILE

Out, as a row or by hand as JSON in FILE: seconds since 1970 at which TensorFlow was imported, and at which all tasks
had met, and the number of tasks.
"""

import json
import sys
import time

import tensorflow as tf


def main(config):
    """Write the figures as a row of a pipeline."""
    config.write(**meet())


def meet():
    """Add one for each task, over all tasks; return the figures."""
    imported_at = time.time()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    tasks = strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)
    return {"imported_at": repr(imported_at), "met_at": repr(time.time()), "tasks": int(tasks)}


if __name__ == "__main__":
    with open(sys.argv[1], "w") as file:
        json.dump(meet(), file)

"""Task of a TensorFlow cluster that prints the addresses that it listens on. Python 3.6 syntax.

    python cluster_server.py ADDRESS,ADDRESS INDEX

Task 1 serves; task 0 adds two numbers on it, prints a JSON object, and ends.
"""

import json
import os
import sys

import tensorflow as tf


def main(addresses, index):
    server = tf.compat.v1.train.Server({"worker": addresses}, job_name="worker", task_index=index)
    if index == 1:
        server.join()
    with tf.Graph().as_default():
        with tf.device("/job:worker/task:1"):
            total = tf.constant(3) + tf.constant(4)
        with tf.compat.v1.Session(server.target) as session:
            print(json.dumps({"total": int(session.run(total)), "listens": listening()}), flush=True)


def listening():
    """Return the addresses that this process listens on, as (address, port)."""
    own = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            own.add(os.readlink("/proc/self/fd/" + descriptor))
        except OSError:
            pass  # the descriptor of the listing itself
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == "0A" and "socket:[{}]".format(fields[9]) in own:
                    address, port = fields[1].split(":")
                    found.append([address, int(port, 16)])
    return found


if __name__ == "__main__":
    main(sys.argv[1].split(","), int(sys.argv[2]))

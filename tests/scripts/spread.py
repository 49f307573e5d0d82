"""Tasks of a cluster that is spread over machines: they report where they are."""

import os
import socket
import time

import train_clusters

STEPS = 30
SAVED_EVERY = 5
WAITS_AT = 18


def hosts(config):
    """Return the addresses of all tasks of the cluster, without ports."""
    return {address.rpartition(":")[0] for addresses in config.cluster.values() for address in addresses}


def where(config):
    """Write the task's rows, with the task and the machine's address that leads to the chief's."""
    chief = config.cluster["chief"][0].rpartition(":")[0]
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.connect((chief, 9))
    own = probe.getsockname()[0]
    probe.close()
    task = "{}:{}".format(config.task_type, config.task_index)
    for batch in config.batches(64):
        n = len(batch["id"])
        config.write_batch(id=batch["id"], task=[task] * n, host=[own] * n, hosts=[",".join(sorted(hosts(config)))] * n)


def meet(config):
    """All-reduce the rows of all tasks; report the number of machines."""
    config.report(hosts=len(hosts(config)))
    train_clusters.meet(config)


def counts(config):
    """Count up a variable on a parameter server, with checkpoints; wait in the first attempt until the file `go`.

    user_params: `log`, a file for the steps that attempts began at and waited at; `go`, that file.
    """
    import tensorflow as tf

    if config.task_type != "chief":
        config.serve()
        return
    coordinator, count, save = train_clusters.begin_counting(config)
    begin = int(count.numpy())
    note(config, "begun", begin)
    step = tf.function(lambda: count.assign_add(1.0))
    for number in range(begin + 1, STEPS + 1):
        if number == WAITS_AT:
            note(config, "waits", number)
            while not os.path.exists(config.user_params["go"]):
                coordinator.schedule(tf.function(lambda: count.read_value()))
                coordinator.join()
                time.sleep(0.1)
        coordinator.schedule(step)
        coordinator.join()
        if number % SAVED_EVERY == 0:
            save(number)
    train_clusters.export(tf, config, tf.stack([count, 0.0]))
    config.report(begin=begin, count=count.numpy(), hosts=len(hosts(config)))


def note(config, event, number):
    """Append an event to the log."""
    with open(config.user_params["log"], "a") as log:
        log.write("{} {} {}\n".format(event, number, config.attempt))

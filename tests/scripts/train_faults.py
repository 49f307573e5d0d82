"""Trainings of clusters in which a task dies, raises, or runs for too long."""

import os
import signal
import time

from train_clusters import begin_counting, export

STEPS = 40
SAVED_EVERY = 10


def counts(config):
    """Count up a variable by steps of ParameterServerStrategy, with checkpoints; kill tasks as `user_params` says.

    user_params: `kills`, for each attempt [moment, number of the task], and `log`, a file for the steps it began at.
    """
    import tensorflow as tf

    if config.task_type != "chief":
        config.serve()
        return
    coordinator, count, save = begin_counting(config)
    begin = int(count.numpy())
    with open(config.user_params["log"], "a") as log:
        log.write("{}\n".format(begin))
    step = tf.function(lambda: count.assign_add(1.0))
    for number in range(begin + 1, STEPS + 1):
        coordinator.schedule(step)
        coordinator.join()
        if number % SAVED_EVERY == 0:
            save(number)
        if number == begin + SAVED_EVERY + 5:
            kill_task(config, "training")
    if config.user_params["kills"]:
        os.makedirs(config.saved_model_dir)
        with open(os.path.join(config.saved_model_dir, "saved_model.pb"), "wb") as half:
            half.write(b"half a mod")
        kill_task(config, "export", then_wait=True)
        os.unlink(half.name)
    export(tf, config, tf.stack([count, 0.0]))
    config.report(begin=begin, count=count.numpy())


def kill_task(config, moment, then_wait=False):
    """Kill the task that is to die in this attempt, if its step has come."""
    kills = config.user_params["kills"]
    if config.attempt > len(kills) or kills[config.attempt - 1][0] != moment:
        return
    os.kill(tasks()[kills[config.attempt - 1][1]], signal.SIGKILL)
    if then_wait:
        time.sleep(600)


def tasks():
    """Return the processes of the cluster's tasks, the chief first: one process starts them in that order."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/{}/stat".format(name)) as file:
                fields = file.read().rpartition(")")[2].split()
            with open("/proc/{}/cmdline".format(name), "rb") as file:
                is_script = b"launcher.main()" in file.read()
        except OSError:
            continue
        if is_script and int(fields[1]) == os.getppid():
            found.append((int(fields[19]), int(name)))
    return [pid for _, pid in sorted(found)]


def raises(config):
    """Raise in one task between two all-reduces, while the other task waits in the second."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    add = tf.function(lambda: strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", 1.0)))
    add()
    if config.task_type == config.user_params["who"]:
        return 1 / (config.num_workers - 2)
    for _ in range(1000):
        add()


def chief_ends_first(config):
    """Return in the chief, and run forever in the worker."""
    if config.task_type == "chief":
        if hasattr(config, "saved_model_dir"):
            import tensorflow as tf

            export(tf, config, tf.constant([1.0, 0.0]))
        return
    time.sleep(600)

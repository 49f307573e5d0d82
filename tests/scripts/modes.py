"""Script that computes in another mode of TensorFlow in each run, and writes the state of TensorFlow at its start.

Python 3.6 syntax. `user_params`: `modes` is a list of each run's mode ("session", "graph", "v1", "eager" or "v2").
`marks` is the path of a file that counts the runs. `raises` is the number of a run that fails after its first rows.
"""

import json
import os

import tensorflow as tf


def main(config):
    """Write each id, read in the run's mode."""
    number = count_run(config.user_params["marks"])
    mode = config.user_params["modes"][number]
    found, context = state(), has_context()
    enter(mode)
    for names, outside in read(config, mode):
        for name in names:
            config.write(
                id=name, run=number, mode=mode, pid=os.getpid(), found=found, context=context, outside=outside
            )  # fmt: skip
        if number == config.user_params.get("raises"):
            raise ArithmeticError("the first run fails")
    if hasattr(config, "dataset_file") and not hasattr(config, "datasets"):
        # By a session of the runtime, in any mode.
        assert sum(len(batch["id"]) for batch in config.batches(3)) == config.dataset_length


def count_run(path):
    """Return the number of earlier runs."""
    with open(path, "a+") as marks:
        marks.write("x")
        marks.flush()
        return marks.tell() - 1


def state():
    """Return TensorFlow's state that a script can see at its start, as JSON."""
    v1 = tf.compat.v1
    found = {
        "eager": tf.executing_eagerly(),
        "resource_variables": v1.resource_variables_enabled(),
        "session": v1.get_default_session() is not None,
    }
    return json.dumps(found, sort_keys=True)


def has_context():
    """Return True if TensorFlow has made its eager context."""
    from tensorflow.python.eager import context

    return context._context is not None


def is_eager_outside(records):
    """Return True if a function of a Dataset is built as in eager code."""
    from tensorflow.python.framework import ops

    found = []

    def same(record):
        found.append(bool(ops.executing_eagerly_outside_functions()))
        return record

    records.map(same)
    return found[0]


def enter(mode):
    """Switch to a mode, as scripts do at their start."""
    if mode in ("session", "graph"):
        tf.compat.v1.disable_eager_execution()
    elif mode == "v1":
        tf.compat.v1.disable_v2_behavior()
    elif mode == "v2":
        tf.compat.v1.enable_v2_behavior()
    elif not tf.executing_eagerly():
        tf.compat.v1.enable_eager_execution()
    assert tf.executing_eagerly() == (mode in ("eager", "v2"))
    if not tf.executing_eagerly():
        assert not tf.compat.v1.get_default_graph().get_operations(), "the graph of an earlier run is still there"


def read(config, mode):
    """Yield (ids, True if functions of their Dataset are built as in eager code)."""
    if mode == "session":
        # No function is built, so TensorFlow needs no eager context.
        yield read_by_placeholder(config), None
        return
    for records in datasets(config):
        outside = is_eager_outside(records)
        yield (read_eagerly if tf.executing_eagerly() else read_in_graph)(records, config.feature_spec), outside


def read_by_placeholder(config):
    """Return the ids, from Examples that are fed to a session."""
    v1 = tf.compat.v1
    serialized = v1.placeholder(tf.string, [None])
    ids = tf.io.parse_example(serialized, config.feature_spec)["id"]
    session = v1.InteractiveSession()
    return [name for records in config.example_batches(3) for name in session.run(ids, {serialized: records})]


def datasets(config):
    """Yield Datasets of serialized Examples, by the feed's own method."""
    if hasattr(config, "datasets"):
        for records in config.datasets():
            yield records
    elif hasattr(config, "dataset_file"):
        yield tf.data.TFRecordDataset(config.dataset_file)
    else:
        yield config.dataset_fn()


def read_in_graph(records, spec):
    """Return the ids, by a session on the default graph; leave an interactive session open on the graph."""
    v1 = tf.compat.v1
    rows = records.map(lambda record: tf.io.parse_single_example(record, spec)["id"])
    following = v1.data.make_one_shot_iterator(rows).get_next()
    count = v1.get_variable("count", [], tf.int64, initializer=v1.zeros_initializer())
    step = v1.assign_add(count, 1)
    session = v1.InteractiveSession()
    session.run(v1.global_variables_initializer())
    names = []
    while True:
        try:
            names.append(session.run(following))
        except tf.errors.OutOfRangeError:
            break
        session.run(step)
    assert session.run(count) == len(names)
    return names


def read_eagerly(records, spec):
    """Return the ids by iteration; count them by a function whose variable is made outside."""
    made = []

    @tf.function
    def step():
        if not made:
            made.append(tf.Variable(0))
        return made[0].assign_add(1)

    names = []
    for record in records:
        names.append(tf.io.parse_single_example(record, spec)["id"].numpy())
        assert step().numpy() == len(names)
    return names

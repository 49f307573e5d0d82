"""Where TensorFlow's versions differ, 1.15 to the newest: asks what is there, never which version it is."""

import contextlib


def start_server(tensorflow, cluster, task_type, task_index):
    """Starts TensorFlow's server for a task of a cluster; it listens until its process ends.

    Args:
      tensorflow: the imported module.
      cluster: role -> list of addresses.
      task_type, task_index: the task.
    """
    config = None
    if task_type == "ps":
        # What only holds variables would keep the memory of the accelerator from those who compute.
        config = tensorflow.compat.v1.ConfigProto(device_count={"GPU": 0})
    return tensorflow.compat.v1.train.Server(
        tensorflow.compat.v1.train.ClusterSpec(cluster), job_name=task_type, task_index=task_index, config=config
    )


def cpu_session(tensorflow, graph, threads):
    """A session on `graph` that takes no accelerator.

    Args:
      tensorflow: the imported module.
      graph: a `tf.Graph`.
      threads: size of the process's thread pool if this session is the first to use it; 0 for the default.
    """
    return tensorflow.compat.v1.Session(graph=graph, config=_cpu_config(tensorflow, threads))


def private_session(tensorflow, graph):
    """A session on `graph` that takes no accelerator and does not resize the process's thread pool."""
    from tensorflow.python.eager import context

    threads = 0
    # Asking for the threads makes the eager context, in a mode that the script may yet change.
    if context.context_safe() is not None and hasattr(tensorflow.config, "threading"):
        threads = tensorflow.config.threading.get_intra_op_parallelism_threads()
    config = _cpu_config(tensorflow, threads)
    # What is run here is one large operation: looking for a better graph costs more than it could give.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tensorflow.compat.v1.Session(graph=graph, config=config)


def as_plain_function(tensorflow, function):
    """`function` marked so that autograph leaves it alone."""
    return tensorflow.autograph.experimental.do_not_convert(function)


def without_autotuning(tensorflow, dataset):
    """`dataset` as it was written: tuned, it parses more batches ahead than were asked for."""
    options = tensorflow.data.Options()
    if hasattr(options, "autotune"):
        options.autotune.enabled = False
    elif hasattr(options, "experimental_optimization"):
        options.experimental_optimization.autotune = False
    return dataset.with_options(options)


def one_record_each(tensorflow, dataset):
    """`dataset` with one record an element, where it may hold vectors of records."""
    rank = tensorflow.compat.v1.data.get_output_shapes(dataset).ndims
    if not rank:
        return dataset
    # A Dataset of TensorFlow 1 stays one in apply(); its own unbatch() returns one of TensorFlow 2.
    if hasattr(dataset, "unbatch"):
        return dataset.apply(lambda vectors: vectors.unbatch())
    return dataset.apply(tensorflow.data.experimental.unbatch())


def checked(tensorflow, condition, message, value):
    """`value`, once all of `condition` is seen to be true; else an InvalidArgumentError with `message`.

    `tf.debugging.assert_…` would do, but builds two functions for each.
    """
    whole = tensorflow.reduce_all(condition)
    assertion = tensorflow.raw_ops.Assert(condition=whole, data=[tensorflow.constant(message)])
    with tensorflow.control_dependencies([assertion]):
        return tensorflow.identity(value)


def sparse_to_dense(tensorflow, indices, shape, values, default):
    """A dense tensor with `values` (or the one value) at `indices`; an index outside of it is an error."""
    return tensorflow.raw_ops.SparseToDense(
        sparse_indices=indices,
        output_shape=shape,
        sparse_values=values,
        default_value=default,
        validate_indices=True,
    )


def indices_of_true(tensorflow, mask):
    """The coordinates of the True elements of a bool tensor."""
    return tensorflow.compat.v2.where(mask)


@contextlib.contextmanager
def in_default_graph(tensorflow):
    """Enters the default graph in graph mode; does nothing in eager code, or while a function is built.

    If TensorFlow made its eager context before the script left eager mode, a function that is built in a graph which
    is not entered counts as built in eager code. Its calls of Python are then bound to a device of `/job:localhost`,
    which a session on the script's own server does not have.
    """
    graph = None if tensorflow.executing_eagerly() else tensorflow.compat.v1.get_default_graph()
    if graph is None or graph.building_function:
        yield
    else:
        with graph.as_default():
            yield


def estimators():
    """The module with TensorFlow 1's Estimators, by which scripts for other platforms train.

    Raises:
      ImportError: TensorFlow has none.
    """
    import tensorflow as tf

    if not hasattr(tf.compat.v1, "estimator"):
        raise ImportError(
            "TensorFlow {} has no Estimators; 2.15 is the last release that has them. Give the transform "
            "python_env=…, or requirements=['tensorflow==2.15.1'] with python_version='3.11'.".format(tf.__version__)
        )
    return tf.compat.v1.estimator


def _cpu_config(tensorflow, threads):
    return tensorflow.compat.v1.ConfigProto(device_count={"GPU": 0}, intra_op_parallelism_threads=threads)

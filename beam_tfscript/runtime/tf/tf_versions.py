"""Operations that differ between TensorFlow 1.15 and the newest: tested by attribute, never by version number."""

import contextlib


def start_server(tensorflow, cluster, task_type, task_index):
    """Start TensorFlow's server for a task of a cluster; the server listens until its process ends.

    https://www.tensorflow.org/api_docs/python/tf/distribute/Server

    Args:
      tensorflow: the imported module.
      cluster: dict, role -> list of addresses ("host:port").
      task_type, task_index: role and index of the task.
    """
    config = None
    if task_type == "ps":
        # A parameter server only holds variables. With a GPU, it would take the memory that the workers need.
        config = tensorflow.compat.v1.ConfigProto(device_count={"GPU": 0})
    return tensorflow.compat.v1.train.Server(
        tensorflow.compat.v1.train.ClusterSpec(cluster), job_name=task_type, task_index=task_index, config=config
    )


def cpu_session(tensorflow, graph, threads):
    """Return a session on `graph` that uses no GPU.

    Args:
      tensorflow: the imported module.
      graph: a `tf.Graph`.
      threads: size of the process's thread pool if this session is the first to use the pool; 0 for the default.
    """
    return tensorflow.compat.v1.Session(graph=graph, config=_cpu_config(tensorflow, threads))


def private_session(tensorflow, graph):
    """Return a session on `graph` that uses no GPU, and leaves the process's thread pool as it is."""
    from tensorflow.python.eager import context

    threads = 0
    # Reading the number of threads would make the eager context, in a mode that the script may change later.
    if context.context_safe() is not None and hasattr(tensorflow.config, "threading"):
        threads = tensorflow.config.threading.get_intra_op_parallelism_threads()
    config = _cpu_config(tensorflow, threads)
    # The graph is mainly one large operation. Optimizing the graph costs more time than it saves.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tensorflow.compat.v1.Session(graph=graph, config=config)


def as_plain_function(tensorflow, function):
    """Return `function`, marked so that AutoGraph does not convert it."""
    return tensorflow.autograph.experimental.do_not_convert(function)


def without_autotuning(tensorflow, dataset):
    """Return `dataset` without autotuning, which would prefetch more batches than the code says.

    https://www.tensorflow.org/api_docs/python/tf/data/experimental/AutotuneOptions
    """
    options = tensorflow.data.Options()
    if hasattr(options, "autotune"):
        options.autotune.enabled = False
    elif hasattr(options, "experimental_optimization"):
        options.experimental_optimization.autotune = False
    return dataset.with_options(options)


def one_record_each(tensorflow, dataset):
    """Return `dataset` with one record per element; its elements may be records or vectors of records."""
    rank = tensorflow.compat.v1.data.get_output_shapes(dataset).ndims
    return unbatched(tensorflow, dataset) if rank else dataset


def unbatched(tensorflow, dataset):
    """Return `dataset` with one row per element; its elements are vectors of rows."""
    # apply() keeps the class of a TensorFlow 1 Dataset; its unbatch() would return a TensorFlow 2 Dataset.
    if hasattr(dataset, "unbatch"):
        return dataset.apply(lambda vectors: vectors.unbatch())
    return dataset.apply(tensorflow.data.experimental.unbatch())


def checked(tensorflow, condition, message, value):
    """Return `value` after a check that `condition` is true in all elements; else InvalidArgumentError(`message`).

    `tf.debugging.assert_…` checks the same, but builds two functions per check, which takes longer.
    """
    all_true = tensorflow.reduce_all(condition)
    assertion = tensorflow.raw_ops.Assert(condition=all_true, data=[tensorflow.constant(message)])
    with tensorflow.control_dependencies([assertion]):
        return tensorflow.identity(value)


def sparse_to_dense(tensorflow, indices, shape, values, default):
    """Return a dense tensor with `values`, or the one value, at `indices`; an index out of bounds is an error."""
    return tensorflow.raw_ops.SparseToDense(
        sparse_indices=indices,
        output_shape=shape,
        sparse_values=values,
        default_value=default,
        validate_indices=True,
    )


def indices_of_true(tensorflow, mask):
    """Return the coordinates of the True elements of a bool tensor."""
    return tensorflow.compat.v2.where(mask)


@contextlib.contextmanager
def in_default_graph(tensorflow):
    """Enter the default graph in graph mode; do nothing in eager code, or while a function is built.

    TensorFlow may have made its eager context before the script left eager mode. A function that is built in a graph
    that is not entered then counts as built in eager code. TensorFlow binds its calls of Python to a device of
    `/job:localhost`, which a session on the script's own server does not have.
    """
    graph = None if tensorflow.executing_eagerly() else tensorflow.compat.v1.get_default_graph()
    if graph is None or graph.building_function:
        yield
    else:
        with graph.as_default():
            yield


def estimators():
    """Return the module with TensorFlow 1's Estimators, by which scripts for other platforms train.

    Raises:
      ImportError: this TensorFlow has no Estimators.
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

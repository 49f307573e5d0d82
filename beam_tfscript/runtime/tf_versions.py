"""Where TensorFlow's versions differ, 1.15 to the newest: asks what is there, never which version it is."""

import sys

# Keras has lived in all of these modules; what is loaded of them has state of its own.
_KERAS_BACKENDS = (
    "tensorflow_core.python.keras.backend",
    "tensorflow.python.keras.backend",
    "keras.src.backend",
    "keras.backend",
    "tf_keras.src.backend",
    "tf_keras.backend",
)


def reset(tensorflow):
    """Clears the default graph, the default session, and the session of every Keras that is loaded.

    Args:
      tensorflow: the imported module.
    """
    _reset_keras()
    _leave_sessions()
    try:
        tensorflow.compat.v1.reset_default_graph()
    except AssertionError:
        _leave_graphs()
        tensorflow.compat.v1.reset_default_graph()
    _forget_eager_context()


def _reset_keras():
    """Clears the session of every Keras that is loaded."""
    for name in _KERAS_BACKENDS:
        # Looked up, never imported: importing Keras takes a second that not every script wants.
        clear = getattr(sys.modules.get(name), "clear_session", None)
        if clear is not None:
            try:
                clear()
            except AssertionError:
                pass  # it resets the default graph, which a session left open forbids; done below


def _leave_sessions():
    """Forgets the default sessions that the script has entered and not left, as InteractiveSession does."""
    from tensorflow.python.framework import ops

    try:
        from tensorflow.python.framework import stack
    except ImportError:
        stack = ops
    stack._default_session_stack.reset()


def _leave_graphs():
    """Forgets the graphs that the script has entered and not left, and is eager again where it was."""
    from tensorflow.python.eager import context
    from tensorflow.python.framework import ops

    ops._default_graph_stack.reset()
    # Entering a graph makes the thread build graphs instead of computing; only leaving it would undo that.
    context.context()._thread_local_data.is_eager = context.default_execution_mode == context.EAGER_MODE


def _forget_eager_context():
    """Lets a TensorFlow that builds graphs by default make anew what it has for eager code, if it has not been used.

    What was made before a script turns eager execution on does not know of it: the functions of a Dataset would then be
    added to a graph, and not be found.
    """
    from tensorflow.python.eager import context

    made = getattr(context, "_context", None)
    if context.default_execution_mode != context.EAGER_MODE and getattr(made, "_context_handle", None) is None:
        context._context = None


def limit_threads(tensorflow, threads):
    """Sizes the pool that computes single operations, for eager code and for sessions.

    Args:
      tensorflow: the imported module, before its first operation.
      threads: number of threads.
    """
    if hasattr(tensorflow.config, "threading"):
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    # Sessions do not look at the setting above. The process has one pool, and its size is that of the first
    # session or eager operation; later ones may ask for what they want.
    with tensorflow.Graph().as_default():
        tensorflow.compat.v1.Session(config=_session_config(tensorflow, threads)).close()


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


def private_session(tensorflow, graph):
    """A session on `graph` that takes no accelerator and does not resize the process's thread pool."""
    threads = 0
    if hasattr(tensorflow.config, "threading"):
        threads = tensorflow.config.threading.get_intra_op_parallelism_threads()
    config = _session_config(tensorflow, threads)
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
    if hasattr(dataset, "unbatch"):
        return dataset.unbatch()
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


def _session_config(tensorflow, threads):
    return tensorflow.compat.v1.ConfigProto(device_count={"GPU": 0}, intra_op_parallelism_threads=threads)

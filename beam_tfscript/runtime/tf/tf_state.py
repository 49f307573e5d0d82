"""TensorFlow's state in the script process: noted before the first run, restored before each later run.

TensorFlow makes its eager context at the first use, in the mode of that moment:
https://github.com/tensorflow/tensorflow/blob/v2.15.0/tensorflow/python/eager/context.py. Scripts turn eager execution
off (TensorFlow 2) or on (TensorFlow 1) before that. So this file never makes the context before the script runs. A
context of an earlier run is dropped if it is not initialized. Otherwise it stays, and is set to the mode of the start.
"""

import sys
from collections import OrderedDict, namedtuple

from beam_tfscript.runtime.tf import tf_versions

# Keras moved between these modules from release to release; each one that is loaded has its own state.
_KERAS_BACKENDS = (
    "tensorflow_core.python.keras.backend",
    "tensorflow.python.keras.backend",
    "keras.src.backend",
    "keras.backend",
    "tf_keras.src.backend",
    "tf_keras.backend",
)

_Start = namedtuple("_Start", ["mode", "switches", "get_context", "has_context"])
_start = None  # type: _Start | None


def note(tensorflow):
    """Note the state of TensorFlow before a script can change it.

    Args:
      tensorflow: the module, just imported.
    """
    from tensorflow.python.eager import context

    global _start
    _start = _Start(
        mode=context.default_execution_mode,
        switches=_read_switches(tensorflow),
        get_context=context.context,
        # The first releases of TensorFlow 2 make the context during the import.
        has_context=context.context_safe() is not None,
    )


def limit_threads(tensorflow, threads):
    """Size the pool of threads that compute single operations, for eager code and for sessions.

    Args:
      tensorflow: the imported module, before its first operation.
      threads: number of threads.
    """
    # The process has one pool, of the size that its first session or eager operation asks for. The environment variable
    # TF_NUM_INTRAOP_THREADS is only a default, and a script's session could ask for more. See
    # https://github.com/tensorflow/tensorflow/blob/v2.15.0/tensorflow/core/common_runtime/process_util.cc.
    # The graph is not entered, as that would make the eager context.
    tf_versions.cpu_session(tensorflow, tensorflow.Graph(), threads).close()
    from tensorflow.python.eager import context

    class LimitedContext(context.Context):
        """Eager context with the limit, for scripts that read `tf.config.threading`."""

        def __init__(self, *args, **kwargs):
            super(LimitedContext, self).__init__(*args, **kwargs)
            self.intra_op_parallelism_threads = threads

    context.Context = LimitedContext
    if context.context_safe() is not None:
        context.context_safe().intra_op_parallelism_threads = threads


def reset(tensorflow):
    """Restore the state of TensorFlow before the first run, as far as possible.

    Restored: the default graph and session, the session of each loaded Keras, the mode, and the switches of
    `enable_v2_behavior` and `disable_v2_behavior`.

    Args:
      tensorflow: the imported module.
    """
    _leave_sessions()
    _leave_graphs()
    _reset_keras()
    tensorflow.compat.v1.reset_default_graph()
    # The script may have been the first to import TensorFlow: then nothing was noted.
    if _start is not None:
        _restore_behavior(tensorflow, _start)
        _renew_eager_context(_start)


def _leave_sessions():
    """Drop default sessions that the script has entered and not left, as InteractiveSession does."""
    from tensorflow.python.framework import ops

    try:
        from tensorflow.python.framework import stack
    except ImportError:
        stack = ops
    stack._default_session_stack.reset()


def _leave_graphs():
    """Drop graphs that the script has entered and not left; return to eager mode if it was on."""
    from tensorflow.python.eager import context
    from tensorflow.python.framework import ops

    ops._default_graph_stack.reset()
    eager_context = context.context_safe()
    if eager_context is not None:
        # In a graph, the thread builds operations instead of computing them. Only leaving the graph would undo that.
        eager_context._thread_local_data.is_eager = context.default_execution_mode == context.EAGER_MODE
        eager_context._context_switches = _outermost_switches()


def _reset_keras():
    """Clear the session of each Keras that is loaded."""
    for name in _KERAS_BACKENDS:
        # Never imported here: importing Keras takes a second, and not all scripts need it.
        clear = getattr(sys.modules.get(name), "clear_session", None)
        if clear is not None:
            clear()


def _restore_behavior(tensorflow, start):
    """Restore the mode and the switches of the start."""
    from tensorflow.python.eager import context

    for name, was_on in start.switches.items():
        if _read_switches(tensorflow)[name] != was_on:
            getattr(tensorflow.compat.v1, ("enable_" if was_on else "disable_") + name)()
    context.default_execution_mode = start.mode


def _renew_eager_context(start):
    """Drop an eager context that is not initialized; set one that is to the mode of the start."""
    from tensorflow.python.eager import context

    # Enabling eager execution replaces this function by another one, which never makes a context.
    context.context = start.get_context
    eager_context = context.context_safe()
    if eager_context is None:
        return
    if eager_context._context_handle is None:
        context._context = None
        if start.has_context:
            context._create_context()
        return
    # An initialized context cannot be dropped: tensors may refer to it, and it holds the process's devices.
    eager_context._thread_local_data.is_eager = start.mode == context.EAGER_MODE


def _outermost_switches():
    """Return a stack of entered graphs and eager scopes whose outermost scope follows the mode.

    In TensorFlow's own stack, the outermost scope has the mode in which the context was made. After a change of mode,
    functions of a Dataset would be added to the wrong scope. TensorFlow then does not find them, or binds them to
    devices that a session's server does not have.
    """
    from tensorflow.python.eager import context
    from tensorflow.python.framework import ops

    def enter_outermost():
        if context.default_execution_mode == context.EAGER_MODE:
            return context.eager_mode()
        return ops._default_graph_stack._GetGlobalDefaultGraph().as_default()

    class Switches(context._ContextSwitchStack):
        """Stack per thread: the base is a `threading.local`, so each thread runs `__init__`."""

        def __init__(self):
            super(Switches, self).__init__(False)
            self.push(is_building_function=False, enter_context_fn=enter_outermost, device_stack=None)

    return Switches()


def _read_switches(tensorflow):
    """Return a dict, suffix of `tf.compat.v1.enable_…` and `disable_…` -> True if on.

    `v2_behavior` is first, as it sets the other switches.
    """
    from tensorflow.python import tf2
    from tensorflow.python.ops import control_flow_util

    return OrderedDict(
        [
            ("v2_behavior", tf2.enabled()),
            ("resource_variables", tensorflow.compat.v1.resource_variables_enabled()),
            # tf.compat.v1.control_flow_v2_enabled() makes a default graph, which forbids enabling eager execution.
            ("control_flow_v2", control_flow_util.ENABLE_CONTROL_FLOW_V2),
        ]
    )

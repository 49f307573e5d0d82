"""TensorFlow's state in the script process: noted before the first run, put back before each later run.

TensorFlow makes its eager context when it first needs one, in the mode of that moment. Scripts turn eager execution off
(TensorFlow 2) or on (TensorFlow 1) before that moment. So nothing here makes the context before the script runs. A
context that the run before has left is dropped; one that has been in use stays, and is made to follow the mode.
"""

import sys
from collections import OrderedDict, namedtuple

from beam_tfscript.runtime.tf import tf_versions

# Keras has lived in all of these modules; each one that is loaded has its own state.
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
    """Notes the state of TensorFlow before a script can change it.

    Args:
      tensorflow: the module, just imported.
    """
    from tensorflow.python.eager import context

    global _start
    _start = _Start(
        mode=context.default_execution_mode,
        switches=_read_switches(tensorflow),
        get_context=context.context,
        # The first releases of TensorFlow 2 make the context while they are imported.
        has_context=context.context_safe() is not None,
    )


def limit_threads(tensorflow, threads):
    """Sizes the pool that computes single operations, for eager code and for sessions.

    Args:
      tensorflow: the imported module, before its first operation.
      threads: number of threads.
    """
    # The process has one pool, of the size that the first session or eager operation asks for. The environment variable
    # TF_NUM_INTRAOP_THREADS is only a default: a script's own session would still ask for more. The graph is not
    # entered, as entering one makes the eager context.
    tf_versions.cpu_session(tensorflow, tensorflow.Graph(), threads).close()
    from tensorflow.python.eager import context

    class LimitedContext(context.Context):
        """Eager context that knows the limit, for scripts that ask `tf.config.threading`."""

        def __init__(self, *args, **kwargs):
            super(LimitedContext, self).__init__(*args, **kwargs)
            self.intra_op_parallelism_threads = threads

    context.Context = LimitedContext
    if context.context_safe() is not None:
        context.context_safe().intra_op_parallelism_threads = threads


def reset(tensorflow):
    """Puts TensorFlow back into the state before the first run, as far as that is possible.

    Put back: the default graph and session, the session of every loaded Keras, the mode, and the switches of
    `enable_v2_behavior` and `disable_v2_behavior`.

    Args:
      tensorflow: the imported module.
    """
    _leave_sessions()
    _leave_graphs()
    _reset_keras()
    tensorflow.compat.v1.reset_default_graph()
    # There is no note if the script was the first to import TensorFlow.
    if _start is not None:
        _restore_behavior(tensorflow, _start)
        _renew_eager_context(_start)


def _leave_sessions():
    """Forgets the default sessions that the script has entered and not left, as InteractiveSession does."""
    from tensorflow.python.framework import ops

    try:
        from tensorflow.python.framework import stack
    except ImportError:
        stack = ops
    stack._default_session_stack.reset()


def _leave_graphs():
    """Forgets the graphs that the script has entered and not left, and goes back to eager mode where it was on."""
    from tensorflow.python.eager import context
    from tensorflow.python.framework import ops

    ops._default_graph_stack.reset()
    made = context.context_safe()
    if made is not None:
        # Entering a graph makes the thread build graphs instead of computing; only leaving it would undo that.
        made._thread_local_data.is_eager = context.default_execution_mode == context.EAGER_MODE
        made._context_switches = _outermost_switches()


def _reset_keras():
    """Clears the session of every Keras that is loaded."""
    for name in _KERAS_BACKENDS:
        # Looked up, never imported: importing Keras takes a second that not every script wants.
        clear = getattr(sys.modules.get(name), "clear_session", None)
        if clear is not None:
            clear()


def _restore_behavior(tensorflow, start):
    """Goes back to the mode and the switches of the start."""
    from tensorflow.python.eager import context

    for name, was_on in start.switches.items():
        if _read_switches(tensorflow)[name] != was_on:
            getattr(tensorflow.compat.v1, ("enable_" if was_on else "disable_") + name)()
    context.default_execution_mode = start.mode


def _renew_eager_context(start):
    """Drops an eager context that has not been in use; puts one that has been into the mode of the start."""
    from tensorflow.python.eager import context

    # Enabling eager execution replaces this function by one that never makes a context.
    context.context = start.get_context
    made = context.context_safe()
    if made is None:
        return
    if made._context_handle is None:
        context._context = None
        if start.has_context:
            context._create_context()
        return
    # Tensors may refer to it, and it holds the process's devices.
    made._thread_local_data.is_eager = start.mode == context.EAGER_MODE


def _outermost_switches():
    """The stack of entered graphs and eager scopes of a context, with an outermost scope that follows the mode.

    In TensorFlow's own stack the outermost scope is the mode in which the context was made. After a change of mode,
    functions of a Dataset would be added to the wrong scope: TensorFlow does not find them there, or binds them to
    devices that a session's server does not have.
    """
    from tensorflow.python.eager import context
    from tensorflow.python.framework import ops

    def enter_outermost():
        if context.default_execution_mode == context.EAGER_MODE:
            return context.eager_mode()
        return ops._default_graph_stack._GetGlobalDefaultGraph().as_default()

    class Switches(context._ContextSwitchStack):
        """Stack of a thread: a `threading.local`, so each thread runs `__init__`."""

        def __init__(self):
            super(Switches, self).__init__(False)
            self.push(is_building_function=False, enter_context_fn=enter_outermost, device_stack=None)

    return Switches()


def _read_switches(tensorflow):
    """Suffixes of `tf.compat.v1.enable_…` and `disable_…` with whether each is on; `v2_behavior` sets the others."""
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

"""Main function of the script process: starts up, serves runs, exits.

`worker/process.py` starts it as `python -c "from beam_tfscript.runtime.run import launcher; launcher.main()"`, with the
socket's descriptor and the scratch directory's path in the environment.
"""

import atexit
import gc
import os
import platform
import signal
import socket
import sys
import traceback

from beam_tfscript.runtime import compat
from beam_tfscript.runtime.transport import stdio, wire
from beam_tfscript.runtime.transport.connection import Connection, write_stacks_on_signals

CHANNEL_VARIABLE = "BEAM_TFSCRIPT_CHANNEL"
SCRATCH_VARIABLE = "BEAM_TFSCRIPT_SCRATCH"
# Signal that makes the process write its Python stacks to stderr; None on systems without real-time signals. Any other
# signal may have a handler of the script's.
STACK_SIGNAL = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else None
THREADS_VARIABLE = "BEAM_TFSCRIPT_INTRA_OP_PARALLELISM"


def main():
    """Serve runs until CLOSE arrives or the pipeline's process is gone."""
    descriptor = int(os.environ.pop(CHANNEL_VARIABLE))
    scratch_directory = os.environ.pop(SCRATCH_VARIABLE)
    # Programs that the script starts must not hold the channel open: the pipeline would not see the script's end.
    os.set_inheritable(descriptor, False)
    # `python -c` puts the current directory on sys.path. A script may import modules from its own folder only.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    compat.install()
    stdio.install()
    write_stacks_on_signals(STACK_SIGNAL)
    connection = Connection(socket.socket(fileno=descriptor), scratch_directory)
    connection.send_control(wire.READY, _start_up())
    # The import of TensorFlow may have changed the root logger.
    stdio.reset_logging()
    _serve(connection)
    # Exit without Python's clean-up: after the script's exit handlers, freeing TensorFlow's million objects would take
    # a second.
    atexit._run_exitfuncs()
    stdio.flush()
    os._exit(0)


def _serve(connection):
    # Imported after READY: so the pipeline hears first that the process runs, and only then of a broken import.
    from beam_tfscript.runtime.run.run_script import inspect_model, run_script

    while True:
        request, rows = connection.next_request()
        if request.kind == wire.CLOSE:
            return
        if request.kind == wire.INSPECT:
            inspect_model(connection, request.json())
            continue
        if not run_script(connection, request.json(), rows):
            return


def _start_up():
    """Import TensorFlow, which takes seconds, before the first run needs it; return the versions for READY."""
    versions = {
        "protocol": wire.PROTOCOL_VERSION,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "tensorflow": None,
        "tensorflow_error": None,
    }
    # The import makes a million objects and almost no garbage. The collector would scan them repeatedly, which takes a
    # fifth of the import's time.
    gc.disable()
    try:
        import tensorflow

        versions["tensorflow"] = getattr(tensorflow, "__version__", "unknown")
    except ImportError:
        # TensorFlow is absent or broken. Some scripts do not need it. A script that imports it gets the same error,
        # at its own line.
        versions["tensorflow_error"] = traceback.format_exc()[-4000:]
        return versions
    finally:
        if hasattr(gc, "freeze"):
            # Imported modules stay. Without this, each full collection would scan them for 0.2 s, and Keras collects
            # whenever its session is cleared. See https://docs.python.org/3/library/gc.html#gc.freeze.
            gc.freeze()
        gc.enable()
    threads = int(os.environ.pop(THREADS_VARIABLE))
    if hasattr(tensorflow, "compat"):
        from beam_tfscript.runtime.tf import tf_state

        tf_state.note(tensorflow)
        if threads:
            tf_state.limit_threads(tensorflow, threads)
    return versions

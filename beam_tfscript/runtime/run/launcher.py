"""The script process, from its first line to its last: comes up, serves runs, ends.

Started by `worker/process.py` as `python -c "from beam_tfscript.runtime.run import launcher; launcher.main()"`
with the socket's descriptor and the scratch directory in the environment.
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
from beam_tfscript.runtime.transport import streams, wire
from beam_tfscript.runtime.transport.connection import Connection, report_signals

CHANNEL_VARIABLE = "BEAM_TFSCRIPT_CHANNEL"
SCRATCH_VARIABLE = "BEAM_TFSCRIPT_SCRATCH"
# Has the process write its Python stacks to stderr, whatever it is doing; None where the system has no such signals.
STACK_SIGNAL = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else None
THREADS_VARIABLE = "BEAM_TFSCRIPT_INTRA_OP_PARALLELISM"


def main():
    """Serves runs until it is told to close or the pipeline's process is gone."""
    descriptor = int(os.environ.pop(CHANNEL_VARIABLE))
    scratch_directory = os.environ.pop(SCRATCH_VARIABLE)
    # Programs that the script starts must not hold the channel open.
    os.set_inheritable(descriptor, False)
    # `python -c` puts the current directory first; a script's modules come from its own folder only.
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    compat.install()
    streams.install()
    report_signals(STACK_SIGNAL)
    connection = Connection(socket.socket(fileno=descriptor), scratch_directory)
    connection.report(wire.READY, _come_up())
    streams.reset_logging()
    _serve(connection)
    # The script's exit handlers run; taking TensorFlow's million objects apart after them would take a second.
    atexit._run_exitfuncs()
    streams.flush()
    os._exit(0)


def _serve(connection):
    # Imported late: the pipeline should hear of a process that is up before it hears of a broken import.
    from beam_tfscript.runtime.run.runs import inspect_model, run_script

    while True:
        request, rows = connection.next_request()
        if request.kind == wire.CLOSE:
            return
        if request.kind == wire.INSPECT:
            inspect_model(connection, request.json())
            continue
        if not run_script(connection, request.json(), rows):
            return


def _come_up():
    """Imports TensorFlow, which takes seconds, before the first run needs it; says what is here."""
    found = {
        "protocol": wire.PROTOCOL_VERSION,
        "python": platform.python_version(),
        "pid": os.getpid(),
        "tensorflow": None,
        "tensorflow_error": None,
    }
    # An import makes a million objects and next to no garbage: the collector would look through them again and again,
    # for a fifth of the time.
    gc.disable()
    try:
        import tensorflow

        found["tensorflow"] = getattr(tensorflow, "__version__", "unknown")
    except ImportError:
        # No TensorFlow, or a broken one. A script may do without it; one that imports it gets the
        # same error again, in its own line.
        found["tensorflow_error"] = traceback.format_exc()[-4000:]
        return found
    finally:
        if hasattr(gc, "freeze"):
            # What was imported stays for good: each collection, such as Keras makes whenever its session is cleared,
            # would look through it again for 0.2 s.
            gc.freeze()
        gc.enable()
    threads = int(os.environ.pop(THREADS_VARIABLE))
    if hasattr(tensorflow, "compat"):
        from beam_tfscript.runtime.tf import tf_state

        tf_state.note(tensorflow)
        if threads:
            tf_state.limit_threads(tensorflow, threads)
    return found

"""One run: imports the script, calls its entry function, and reports how that ended."""

import importlib
import inspect
import os
import sys
import time
import traceback

from beam_tfscript.runtime import wire
from beam_tfscript.runtime.columns import columns_from_wire
from beam_tfscript.runtime.config import BatchTaskConfig, set_config
from beam_tfscript.runtime.context import TFContext
from beam_tfscript.runtime.feed import FeedMisused
from beam_tfscript.runtime.feed_config import make_feed_config
from beam_tfscript.runtime.isolation import RunIsolation
from beam_tfscript.runtime.train_config import TrainTaskConfig
from beam_tfscript.runtime.writer import Metrics, OutputWriter

# A traceback longer than this is cut in the middle: recursion errors repeat themselves.
_TRACEBACK_CHARS = 32 << 10
# Where this package's copy is, which in a traceback says nothing.
_PACKAGE_PLACE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "")


class LoadError(Exception):
    """The script has no such entry function."""


def run_script(connection, request, rows):
    """Runs the script once, as a RUN request says, and reports DONE or FAILED.

    Args:
      connection: where the reports go.
      request: the JSON object of the RUN frame; `worker/session.py` makes it.
      rows: queue of the frames that bring rows while the run goes on.

    Returns:
      Whether the process may serve another run.
    """
    isolation = RunIsolation(request["work_dir"], [request["script"]] + request["script_args"], request["label"])
    metrics = Metrics(connection)
    failure = None
    with isolation:
        connection.report(wire.STARTED, {"run": request["run"]})
        phase = "load"
        try:
            os.environ.update(request.get("environ") or {})
            config = _make_config(connection, request, metrics, rows)
            if request.get("is_hosted"):
                config.serve()
            else:
                begin = time.monotonic()
                entry = _load_entry(request)
                metrics.loaded(time.monotonic() - begin)
                phase = "main"
                _call(entry, config)
            if config.flusher is not None:
                config.flusher.close()
            config.output_writer.close()
        except BaseException as error:  # noqa: BLE001 - a script may raise SystemExit or worse
            failure = _describe(error, phase, request["work_dir"])
        finally:
            set_config(None)
            TFContext.forget()
    metrics.flush()
    if failure is not None:
        connection.report(wire.FAILED, failure)
        return False
    leftovers = isolation.leftovers()
    summary = {"rows": config.output_writer.count, "leftovers": leftovers, "reusable": not leftovers}
    if config.feed is not None:
        # Whoever returned without having seen the end may have left a thread that waits for rows.
        summary.update(
            stopped=config.feed.stopped, taken=config.feed.taken, reusable=not leftovers and config.feed.ended
        )
    connection.report(wire.DONE, summary)
    # A training's process is asked to look at what it has made, and ends after that.
    return summary["reusable"] or "saved_model_dir" in request


def inspect_model(connection, directory):
    """Looks at what a training has exported, and reports INSPECTED or FAILED."""
    from beam_tfscript.runtime import saved_model

    try:
        path = saved_model.find_export(directory)
        described = saved_model.describe(path)
        saved_model.check_loads(path)
    except Exception as error:  # noqa: BLE001 - TensorFlow may fail in any way on a file that is not as it should be
        phase = "model" if isinstance(error, saved_model.SavedModelError) else "main"
        connection.report(wire.FAILED, _describe(error, phase, directory))
        return
    connection.report(wire.INSPECTED, {"path": path, "signatures": described})


def _make_config(connection, request, metrics, rows):
    wire_columns = request["output_schema"]
    columns = None if wire_columns is None else columns_from_wire(wire_columns)
    writer = OutputWriter(connection, columns)
    is_training = "saved_model_dir" in request
    if request["feed"] == "dataset":
        config = (
            TrainTaskConfig(request, writer, metrics, connection)
            if is_training
            else BatchTaskConfig(request, writer, metrics)
        )
    else:
        config = make_feed_config(request, writer, metrics, connection, rows)
    config.frames = rows
    set_config(config)
    return config


def _load_entry(request):
    """The entry function of the script, imported as a module of its file's name."""
    name = os.path.splitext(request["script"])[0]
    script = importlib.import_module(name)
    entry = getattr(script, request["entry"], None)
    if not callable(entry):
        functions = sorted(
            key for key, value in vars(script).items() if callable(value) and getattr(value, "__module__", None) == name
        )
        raise LoadError(
            "{} has no function {!r}; it defines {}".format(
                request["script"], request["entry"], ", ".join(functions) or "no function at all"
            )
        )
    if inspect.isgeneratorfunction(entry) or inspect.iscoroutinefunction(entry):
        raise LoadError(
            "{} in {} is a generator or coroutine function: called, it would do nothing. Write rows with "
            "config.write() or config.write_batch() instead of yielding them.".format(
                request["entry"], request["script"]
            )
        )
    return entry


def _call(entry, config):
    try:
        entry(config)
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        # sys.exit() and sys.exit(0) are how many scripts say that all went well.


def _describe(error, phase, work_dir):
    """A FAILED report: the error in the script's own lines, file names relative to the script's folder."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(work_dir):
        trace = trace.tb_next
    if isinstance(error, LoadError):
        text = str(error)
    else:
        text = "".join(traceback.format_exception(type(error), error, trace))
    text = text.replace(os.path.join(work_dir, ""), "").replace(_PACKAGE_PLACE, "")
    if len(text) > _TRACEBACK_CHARS:
        half = _TRACEBACK_CHARS // 2
        text = text[:half] + "\n  […]\n" + text[-half:]
    return {
        "phase": "feed" if isinstance(error, FeedMisused) else phase,
        "type": type(error).__name__,
        "message": _message(error),
        "traceback": text,
        "python": sys.executable,
        # Of the tasks of a cluster that fail together, who was first.
        "at": time.monotonic(),
    }


def _message(error):
    try:
        return str(error)[:_TRACEBACK_CHARS]
    except Exception as broken:  # noqa: BLE001 - the script's own __str__ may fail in any way
        return "its message cannot be shown: {}".format(type(broken).__name__)

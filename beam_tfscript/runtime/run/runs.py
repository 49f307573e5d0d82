"""One run: loads the script, calls its entry function, and reports how that ended."""

import os
import sys
import time
import traceback

from beam_tfscript.runtime.columns import columns_from_wire
from beam_tfscript.runtime.config.context import TFContext
from beam_tfscript.runtime.config.current import set_config
from beam_tfscript.runtime.config.feed_config import BundleTaskConfig, StreamTaskConfig
from beam_tfscript.runtime.config.task_config import BatchTaskConfig
from beam_tfscript.runtime.config.train_config import StreamTrainTaskConfig, TrainTaskConfig
from beam_tfscript.runtime.reading.feed import FeedMisused
from beam_tfscript.runtime.run.doubts import find_doubt
from beam_tfscript.runtime.run.isolation import RunIsolation
from beam_tfscript.runtime.run.loading import LoadError, load_entry
from beam_tfscript.runtime.transport import wire
from beam_tfscript.runtime.writing.writer import Metrics, OutputWriter

_FEED_CONFIGS = {"bundles": BundleTaskConfig, "stream": StreamTaskConfig}
# A traceback longer than this is cut in the middle: recursion errors repeat themselves.
_TRACEBACK_CHARS = 32 << 10
# The first line of an error's message is cut to this in the one line that sums it up.
_SUMMARY_CHARS = 300
# Where this package's copy is, which in a traceback says nothing.
_PACKAGE_PLACE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "")


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
    ending = (None, False)
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
                entry = load_entry(request["work_dir"], request["script"], request["entry"])
                metrics.loaded(time.monotonic() - begin)
                phase = "main"
                ending = _call(entry, config)
            if not connection.is_owner:
                raise SystemExit(0)  # a child that the script forked has come back from main
            phase = "model"
            config.finish()
            if config.flusher is not None:
                config.flusher.close()
            config.output_writer.close()
        except BaseException as error:
            if not connection.is_owner:
                raise  # a child that the script forked ends as it would without this package
            failure = _describe(error, phase, request["work_dir"], request["script"])
        finally:
            set_config(None)
            TFContext.forget()
    metrics.flush()
    if failure is not None:
        connection.report(wire.FAILED, failure)
        return False
    leftovers = isolation.leftovers()
    summary = {"rows": config.output_writer.count, "leftovers": leftovers, "reusable": not leftovers}
    summary["doubt"] = find_doubt(config, *ending)
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
    from beam_tfscript.runtime.tf import saved_model

    try:
        path = saved_model.find_export(directory)
        described = saved_model.describe(path)
        saved_model.check_loads(path)
    except Exception as error:  # noqa: BLE001 - TensorFlow may fail in any way on a file that is not as it should be
        phase = "model" if isinstance(error, saved_model.SavedModelError) else "main"
        connection.report(wire.FAILED, _describe(error, phase, directory, "the model"))
        return
    connection.report(wire.INSPECTED, {"path": path, "signatures": described})


def _make_config(connection, request, metrics, rows):
    wire_columns = request["output_schema"]
    columns = None if wire_columns is None else columns_from_wire(wire_columns)
    config = _config_of(request, OutputWriter(connection, columns), metrics, connection, rows)
    config.frames = rows
    set_config(config)
    return config


def _config_of(request, writer, metrics, connection, rows):
    is_training = "saved_model_dir" in request
    if request["feed"] != "dataset":
        kind = StreamTrainTaskConfig if is_training else _FEED_CONFIGS[request["feed"]]
        return kind(request, writer, metrics, connection, rows)
    if is_training:
        return TrainTaskConfig(request, writer, metrics, connection)
    return BatchTaskConfig(request, writer, metrics)


def _call(entry, config):
    """Call `main`; give (what it returned, whether it ended by sys.exit())."""
    try:
        return entry(config), False
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        # sys.exit() and sys.exit(0) are how many scripts say that all went well.
        return None, True


def _describe(error, phase, work_dir, script):
    """A FAILED report: the error in the script's own lines, file names relative to the script's folder."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(work_dir):
        trace = trace.tb_next
    if isinstance(error, LoadError):
        text = str(error)
    else:
        text = "".join(traceback.format_exception(type(error), error, trace))
    text = _shorten_places(text, work_dir)
    if len(text) > _TRACEBACK_CHARS:
        half = _TRACEBACK_CHARS // 2
        text = text[:half] + "\n  […]\n" + text[-half:]
    return {
        "phase": "feed" if isinstance(error, FeedMisused) else phase,
        "type": type(error).__name__,
        "message": _message(error),
        "traceback": text,
        "summary": _shorten_places(_summarize(error, trace, work_dir, script), work_dir),
        "python": sys.executable,
        # Of the tasks of a cluster that fail together, who was first.
        "at": time.monotonic(),
    }


def _shorten_places(text, work_dir):
    return text.replace(os.path.join(work_dir, ""), "").replace(_PACKAGE_PLACE, "")


def _summarize(error, trace, work_dir, script):
    """The error in one line: the innermost line of the script's own files, the error's class and its first line."""
    if isinstance(error, LoadError):
        return "{}: {}".format(script, _message(error))
    place = script
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(work_dir):
        place = "{}, line {}".format(error.filename, error.lineno)
    else:
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename.startswith(work_dir):
                place = "{}, line {}".format(code.co_filename, trace.tb_lineno)
            trace = trace.tb_next
    message = error.msg if isinstance(error, SyntaxError) else _message(error)
    lines = [line for line in str(message).splitlines() if line.strip()] or [""]
    if len(lines) > 1 or len(lines[0]) > _SUMMARY_CHARS:
        lines[0] = lines[0][:_SUMMARY_CHARS] + " […]"
    return "{}: {}".format(place, type(error).__name__) + (": " + lines[0] if lines[0] else "")


def _message(error):
    try:
        return str(error)[:_TRACEBACK_CHARS]
    except Exception as broken:  # noqa: BLE001 - the script's own __str__ may fail in any way
        return "its message cannot be shown: {}".format(type(broken).__name__)

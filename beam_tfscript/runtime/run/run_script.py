"""One run: loads the script, calls its entry function, and reports DONE or FAILED."""

import os
import sys
import time
import traceback

import beam_tfscript
from beam_tfscript.runtime.columns import columns_from_wire
from beam_tfscript.runtime.config.current import set_config
from beam_tfscript.runtime.config.dataset_config import DatasetConfig
from beam_tfscript.runtime.config.feed_config import BundlesConfig, StreamConfig
from beam_tfscript.runtime.config.tf_context import TFContext
from beam_tfscript.runtime.config.train_config import StreamTrainConfig, TrainConfig
from beam_tfscript.runtime.reading.feed import FeedMisused
from beam_tfscript.runtime.run.isolation import RunIsolation
from beam_tfscript.runtime.run.likely_mistakes import find_likely_mistake
from beam_tfscript.runtime.run.load_script import LoadError, load_entry
from beam_tfscript.runtime.transport import wire
from beam_tfscript.runtime.writing.metrics import Metrics
from beam_tfscript.runtime.writing.writer import OutputWriter

# (feed, True for a training) -> class of the config.
_CONFIGS = {
    ("dataset", False): DatasetConfig,
    ("bundles", False): BundlesConfig,
    ("stream", False): StreamConfig,
    ("dataset", True): TrainConfig,
    ("stream", True): StreamTrainConfig,
}
# A longer traceback is cut in the middle: recursion errors repeat themselves.
_TRACEBACK_CHARS = 32 << 10
# The summary is one line: of a longer first line of the error's message, only this much is in it.
_SUMMARY_CHARS = 300
# Parent of this package's copy. Tracebacks leave the path out: it is a temporary directory, which tells nothing.
_PACKAGE_PARENT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(beam_tfscript.__file__))), "")


def run_script(connection, request, rows):
    """Run the script once, as a RUN frame asks, and send DONE or FAILED.

    Args:
      connection: the `Connection` to the pipeline's process.
      request: JSON object of the RUN frame; `feeds/session.py` makes it.
      rows: queue of the frames that bring rows during the run.

    Returns:
      True if the process may serve another run.
    """
    isolation = RunIsolation(request["work_dir"], [request["script"]] + request["script_args"], request["label"])
    metrics = Metrics(connection)
    failure = None
    ending = (None, False)
    with isolation:
        connection.send_control(wire.STARTED, {"run": request["run"]})
        phase = "load"
        try:
            os.environ.update(request.get("environ") or {})
            config = _make_config(connection, request, metrics, rows)
            if request.get("is_hosted"):
                config.serve()
            else:
                begin = time.monotonic()
                entry = load_entry(request["work_dir"], request["script"], request["entry"])
                metrics.set_load_s(time.monotonic() - begin)
                phase = "main"
                ending = _call(entry, config)
            if not connection.is_owner:
                raise SystemExit(0)  # a child that the script forked has returned from main
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
        connection.send_control(wire.FAILED, failure)
        return False
    leftovers = isolation.leftovers()
    summary = {"rows": config.output_writer.count, "leftovers": leftovers, "reusable": not leftovers}
    summary["doubt"] = find_likely_mistake(config, *ending)
    if config.feed is not None:
        # A script that returns before the end of the feed may have left a thread that waits for rows.
        summary.update(
            stopped=config.feed.stopped, taken=config.feed.taken, reusable=not leftovers and config.feed.ended
        )
    connection.send_control(wire.DONE, summary)
    # After a training, the same process gets INSPECT, and ends after that.
    return summary["reusable"] or "saved_model_dir" in request


def inspect_model(connection, directory):
    """Describe and load the SavedModel that a training has exported, and send INSPECTED or FAILED."""
    from beam_tfscript.runtime.tf import saved_model

    try:
        path = saved_model.find_export(directory)
        described = saved_model.describe(path)
        saved_model.check_loads(path)
    except Exception as error:  # noqa: BLE001 - TensorFlow may fail in any way on a damaged file
        phase = "model" if isinstance(error, saved_model.SavedModelError) else "main"
        connection.send_control(wire.FAILED, _describe(error, phase, directory, "the model"))
        return
    connection.send_control(wire.INSPECTED, {"path": path, "signatures": described})


def _make_config(connection, request, metrics, rows):
    wire_columns = request["output_schema"]
    columns = None if wire_columns is None else columns_from_wire(wire_columns)
    config_class = _CONFIGS[request["feed"], "saved_model_dir" in request]
    config = config_class(request, OutputWriter(connection, columns), metrics, connection, rows)
    set_config(config)
    return config


def _call(entry, config):
    """Call the entry function; return (its result, True if it ended by sys.exit())."""
    try:
        return entry(config), False
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        # Many scripts end with sys.exit() or sys.exit(0) when all went well.
        return None, True


def _describe(error, phase, work_dir, script):
    """Return the value of a FAILED frame: the traceback from the script's first line on, with relative file names."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(work_dir):
        trace = trace.tb_next
    if isinstance(error, LoadError):
        text = str(error)
    else:
        text = "".join(traceback.format_exception(type(error), error, trace))
    text = _shorten_paths(text, work_dir)
    if len(text) > _TRACEBACK_CHARS:
        half = _TRACEBACK_CHARS // 2
        text = text[:half] + "\n  […]\n" + text[-half:]
    return {
        "phase": "feed" if isinstance(error, FeedMisused) else phase,
        "type": type(error).__name__,
        "message": _message(error),
        "traceback": text,
        "summary": _shorten_paths(_summarize(error, trace, work_dir, script), work_dir),
        "python": sys.executable,
        # Tasks of a cluster fail together. The earliest failure is the root cause; all tasks share this clock.
        "at": time.monotonic(),
    }


def _shorten_paths(text, work_dir):
    return text.replace(os.path.join(work_dir, ""), "").replace(_PACKAGE_PARENT, "")


def _summarize(error, trace, work_dir, script):
    """Return the error in one line: innermost line of the script's files, class, first line of the message."""
    if isinstance(error, LoadError):
        return "{}: {}".format(script, _message(error))
    location = script
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(work_dir):
        location = "{}, line {}".format(error.filename, error.lineno)
    else:
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename.startswith(work_dir):
                location = "{}, line {}".format(code.co_filename, trace.tb_lineno)
            trace = trace.tb_next
    message = error.msg if isinstance(error, SyntaxError) else _message(error)
    lines = [line for line in str(message).splitlines() if line.strip()] or [""]
    if len(lines) > 1 or len(lines[0]) > _SUMMARY_CHARS:
        lines[0] = lines[0][:_SUMMARY_CHARS] + " […]"
    return "{}: {}".format(location, type(error).__name__) + (": " + lines[0] if lines[0] else "")


def _message(error):
    try:
        return str(error)[:_TRACEBACK_CHARS]
    except Exception as broken:  # noqa: BLE001 - an error class of the script may have any __str__
        return "its message cannot be shown: {}".format(type(broken).__name__)

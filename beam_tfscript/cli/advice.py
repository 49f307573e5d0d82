"""What to do about an error, in one line."""

from __future__ import annotations

import re

from beam_tfscript import errors
from beam_tfscript.runtime.docs import page

# The first that fits: what the message holds, and what to do then.
_BY_TEXT = (
    (r"given output_schema=None", "Name what the script writes: --output-schema 'id string, score float'."),
    (
        r"has no Estimators",
        "Name a Python whose TensorFlow has them: --python-env, or --requirements tensorflow==2.15.1 with "
        "--python-version 3.11.",
    ),
    (
        r"No module named '(akdl|dl_on_flink|flink_ml)",
        "Give that package: --user-file for its folder, --requirements or --python-env for one that has it. What is "
        f"here without it: {page('compat')}",
    ),
    (
        r"JSON object must be str",
        "If the script takes its parameters as text, as scripts for other platforms do: --compat-params strings.",
    ),
    (
        r"has no attribute '(saved_model_dir|checkpoint_dir|latest_ckpt_dir|report|export)'",
        "If the script is a training: --train.",
    ),
    (r"has no attribute 'dataset_fn'", "If the script reads a stream: --feed stream."),
    (r"has no attribute 'dataset_(file|length|files)'", "If the script reads a file of rows: --feed dataset."),
    (
        r"params[^\n]*\n([^\n]*\n){0,4}KeyError: ",
        'Give what the script looks for in its parameters: --user-params \'{"name": "value"}\'.',
    ),
    (
        r"required but could not be found|Data types don't match",
        "Make columns and script agree: --input-schema names and types them. An Example holds whole numbers, float and "
        f"string; --selected-cols must not leave out what the script parses: {page('types')}",
    ),
    (
        r"OutputMismatch: ",
        "Make --output-schema and what the script writes agree: names, types, and no column left out.",
    ),
    (
        r"No module named|ImportError|ModuleNotFoundError",
        "Give the module: --user-file for a file of yours, --requirements or --python-env for a package.",
    ),
    (r"out of memory", "Read fewer rows at a time (config.batches(n)), or give the machine more memory."),
    (r"null", f"Give the column a default, as in 'x float default 0', or read with masks=True: {page('guide')}"),
    (r"input_schema", "Name the columns: --input-schema 'id string, x array<float>'."),
)
_BY_CLASS: dict[type[errors.TFScriptError], str] = {
    errors.SchemaError: f"Correct the schema in --input-schema, --output-schema or --selected-cols: {page('types')}",
    errors.ArgumentError: "Correct the flag that is named; `--help` behind the command lists them.",
    errors.RowError: f"Make --input-schema fit the rows, or correct the file. What each type takes: {page('types')}",
    errors.ScriptLoadError: "Correct the script until Python can import it there; --entry names another function.",
    errors.OutputError: "Make --output-schema and what the script writes agree: names, types, and no column left out.",
    errors.ModelError: "Export one SavedModel into config.saved_model_dir, and look at it with saved_model_cli.",
    errors.FeedError: "Loop over config.batches(n) to its end, or try --feed dataset, where it may read as it likes.",
    errors.ScriptDied: "Look at the last lines that it printed; if memory is short, ask for smaller batches.",
    errors.ScriptRaised: "Correct the script at the last line of its own in the traceback above.",
    errors.ScriptEnvironmentError: "Correct the environment: --python-env, or --requirements and --python-version.",
    errors.ProtocolError: "Look for what closes or writes to file descriptors in the script; else please report this.",
}
# An error of this package in a runner's text, up to what Beam puts behind each error of a step. Only without that, up
# to what Python puts between two errors: a script's own traceback may have that in the middle.
_TAGGED = re.compile(
    r"beam_tfscript\.errors\.(\w+): ((?:(?!beam_tfscript\.errors\.\w+: ).)*?) \[while running", re.DOTALL
)
_NAMED = re.compile(r"beam_tfscript\.errors\.(\w+): (.*?)(?=\n\nDuring handling|\n\nThe above|\Z)", re.DOTALL)
# Lines that a script printed before it raised, which say nothing of the error's kind.
_PRINTED = re.compile(r"^  \| .*\n", re.MULTILINE)


def advise(error: errors.TFScriptError) -> str:
    """What to do about an error."""
    if isinstance(error, (errors.ScriptRaised, errors.ScriptLoadError, errors.ScriptDied)):
        text = _PRINTED.sub("", str(error))
        for pattern, what in _BY_TEXT:
            if re.search(pattern, text):
                return what
    return next(_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS)


def is_interrupt(error: BaseException) -> bool:
    """Whether a runner's error is that somebody has pressed Ctrl-C, which a local engine takes for one of the job."""
    return str(error).startswith("KeyboardInterrupt")


def find_cause(error: BaseException) -> errors.TFScriptError | None:
    """The error of this package that a runner's error was raised for; runners keep it as text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, errors.TFScriptError):
            return cause
        cause = cause.__cause__
    text = str(error)
    named = [found for found in _TAGGED.findall(text) or _NAMED.findall(text) if found[0] in errors.__all__]
    return getattr(errors, named[-1][0])(named[-1][1].strip()) if named else None

"""Advice on errors: an error in, one line that says how to correct it out."""

from __future__ import annotations

import re

from beam_tfscript import errors
from beam_tfscript.runtime.docs import page

_FIT_OUTPUT = (
    "Make --output-schema and the rows that the script writes agree: the same names, the same types, every column."
)
# (pattern in the error's text, advice); the first pattern that is found counts.
_BY_TEXT = (
    (
        r"given output_schema=None",
        "Name the columns that the script writes, such as --output-schema 'id string, score float'.",
    ),
    (
        r"has no Estimators",
        "Use a TensorFlow that has Estimators: --requirements tensorflow==2.15.1 with --python-version 3.11, or "
        "--python-env with the path of such an environment.",
    ),
    (
        r"No module named '(akdl|dl_on_flink|flink_ml)",
        "Give the script that package: --user-file adds its folder, --requirements and --python-env use an environment "
        f"that has it. Some of its names are available without it: {page('compat')}",
    ),
    (
        r"JSON object must be str",
        "If the script expects its parameters as text, as scripts for some other platforms do, add --compat-params "
        "strings.",
    ),
    (
        r"has no attribute '(saved_model_dir|checkpoint_dir|latest_ckpt_dir|report|export)'",
        "If the script trains a model, add --train.",
    ),
    (r"has no attribute 'dataset_fn'", "If the script reads a stream of rows, add --feed stream."),
    (r"has no attribute 'dataset_(file|length|files)'", "If the script reads its rows as a file, add --feed dataset."),
    (
        r"params[^\n]*\n([^\n]*\n){0,4}KeyError: ",
        'Give the script the parameter that it looks for, such as --user-params \'{"name": "value"}\'.',
    ),
    (
        r"required but could not be found|Data types don't match",
        "Make the columns fit what the script parses: --input-schema names and types them, and --selected-cols must "
        f"not leave any of them out. An Example holds only int64, 32-bit floats and bytes: {page('types')}",
    ),
    (r"OutputMismatch: ", _FIT_OUTPUT),
    (
        r"No module named|ImportError|ModuleNotFoundError",
        "Give the script the module: --user-file adds a file of yours, --requirements or --python-env a package.",
    ),
    (
        r"out of memory",
        "Read fewer rows per batch in the script (config.batches(n)), or use a machine with more memory.",
    ),
    (
        r"null",
        f"Give the column a default, such as 'x float default 0', or read the rows with masks=True: {page('guide')}",
    ),
    (r"input_schema", "Name the columns, such as --input-schema 'id string, x array<float>'."),
)
_ACCELERATORS = (
    "Give a --accelerators-per-process that this machine has, or leave the flag out. For a try without GPUs, set "
    f"BEAM_TFSCRIPT_ACCELERATORS to a list such as 0,1: {page('guide')}"
)
_BY_CLASS: dict[type[errors.TFScriptError], str] = {
    errors.SchemaError: f"Correct the schema in --input-schema, --output-schema or --selected-cols: {page('types')}",
    errors.ArgumentError: "Correct the flag that the error names; add --help to the command to list all flags.",
    errors.RowError: f"Correct the file, or make --input-schema fit its rows. Values of each type: {page('types')}",
    errors.ScriptLoadError: "Correct the script so that its Python can import it; --entry names a function other than "
    "main.",
    errors.OutputError: _FIT_OUTPUT,
    errors.ModelError: "Export exactly one SavedModel into config.saved_model_dir. saved_model_cli shows its contents.",
    errors.FeedError: "Loop over config.batches(n) to its end, or use --feed dataset, where a script may leave rows "
    "unread.",
    errors.ScriptDied: "Read the last lines that the script printed. If memory ran out, read fewer rows per batch.",
    errors.ScriptRaised: "Correct the script at the last line of its own in the traceback above.",
    errors.TableError: "Check the table's address and the account's rights. If the service was busy, run the command "
    f"again: {page('maxcompute')}",
    errors.ScriptEnvironmentError: "Correct the script's environment: --python-env, or --requirements and "
    "--python-version.",
    errors.ProtocolError: "Check that the script does not close or write to file descriptors that it did not open. If "
    "it does not, please report this error.",
}
# An error of this package in the text of a runner's error, up to the step's name, which Beam appends to each error.
_BEFORE_STEP = re.compile(
    r"beam_tfscript\.errors\.(\w+): ((?:(?!beam_tfscript\.errors\.\w+: ).)*?) \[while running", re.DOTALL
)
# Without a step's name: up to the line that Python prints between chained errors. This is the second choice, because
# the script's own traceback may contain such a line.
_BEFORE_CHAINED = re.compile(r"beam_tfscript\.errors\.(\w+): (.*?)(?=\n\nDuring handling|\n\nThe above|\Z)", re.DOTALL)
# Lines that a script printed before it raised: they do not tell the kind of the error.
_PRINTED = re.compile(r"^  \| .*\n", re.MULTILINE)


def advise(error: errors.TFScriptError) -> str:
    """Return advice on how to correct an error."""
    if isinstance(error, errors.ScriptEnvironmentError) and "accelerators_per_process" in str(error):
        return _ACCELERATORS
    if isinstance(error, (errors.ScriptRaised, errors.ScriptLoadError, errors.ScriptDied)):
        text = _PRINTED.sub("", str(error))
        for pattern, advice in _BY_TEXT:
            if re.search(pattern, text):
                return advice
    return next(_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS)


def is_interrupt(error: BaseException) -> bool:
    """Return True if a runner's error stands for Ctrl-C, which local engines report as a failure of the job."""
    return str(error).startswith("KeyboardInterrupt")


def find_cause(error: BaseException) -> errors.TFScriptError | None:
    """Return the error of this package that made a runner fail; None if there is none.

    The cause is taken from the chain of exceptions, else from the text of the runner's error.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, errors.TFScriptError):
            return cause
        cause = cause.__cause__
    text = str(error)
    matches = _BEFORE_STEP.findall(text) or _BEFORE_CHAINED.findall(text)
    causes = [(name, message) for name, message in matches if name in errors.__all__]
    if not causes:
        return None
    name, message = causes[-1]
    return getattr(errors, name)(message.strip())

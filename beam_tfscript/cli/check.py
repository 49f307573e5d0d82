"""`beam-tfscript check`: run a script over the first rows of a file, and show the result.

In come the parsed flags. Out go the sample, the script's lines and its outputs, as text on stdout; errors are raised.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import tempfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from beam_tfscript.cli import show
from beam_tfscript.cli.arguments import transform_arguments
from beam_tfscript.cli.dry_run import DryRunResult, dry_run
from beam_tfscript.cli.formats import format_of
from beam_tfscript.cli.sample import Sample, take_sample
from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.examples import ExampleDecoder
from beam_tfscript.data.rows import record_batch_to_tuples
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.transforms.input_plan import plan_input
from beam_tfscript.transforms.run_tf_script import RunTFScript
from beam_tfscript.transforms.train_tf_script import TrainTFScript

# Counters of the package that the user should know of, each with the note that follows its number.
_NOTES = {
    "doubles_rounded": "values of double columns lost digits, because an Example holds 32-bit floats; float64 columns "
    "keep all digits",
    "doubles_infinite": "of these values became infinite, because they are beyond 3.4e38",
    "rows_unread": "rows were left unread after config.stop()",
}


def check(flags: argparse.Namespace) -> int:
    """Run the command; return its exit status, 0.

    Raises:
      TFScriptError: a flag cannot be used, or the script, its environment or the rows failed.
    """
    if flags.rows < 1:
        raise ArgumentError(f"--rows must be at least 1, got {flags.rows}.")
    if flags.train and flags.output_schema:
        raise ArgumentError("--train makes a model, and no rows: leave out --output-schema.")
    schema = None if flags.input_schema is None else Schema.parse(flags.input_schema)
    sample = take_sample(flags.data, format_of(flags.data, flags.input_format), schema, rows=flags.rows)
    options, encoder = _plan(flags, sample)
    _show_sample(sample)
    result = DryRunResult()
    with _show_log(options), tempfile.TemporaryDirectory() as directory:
        try:
            dry_run(
                options, encoder, sample.rows, result,
                train_dir=directory if flags.train else None, on_start=lambda: _show_start(result),
            )  # fmt: skip
        finally:
            _show_result(options, result)
    _say("All is well.")
    return 0


def _plan(flags: argparse.Namespace, sample: Sample) -> tuple[ScriptOptions, RowEncoder]:
    """Return the options and the encoder that the transform would have, with one attempt per run."""
    arguments = transform_arguments(flags, input_schema=None if sample.schema is None else str(sample.schema))
    arguments.update(max_attempts=1, feed_timeout=flags.feed_timeout, feed=flags.feed or "dataset")
    transform: RunTFScript | TrainTFScript
    if flags.train:
        transform = TrainTFScript(model_dir=None, **arguments)
    else:
        transform = RunTFScript(output_schema=flags.output_schema, output_as="dict", **arguments)
    # The transform's own, so that its defaults and its checks are those of a pipeline.
    given = transform._options
    schema, encoder = plan_input(
        sample.element_type, given.input_schema, selected_cols=given.selected_cols, shard_by=given.shard_by
    )
    return given.resolve(arguments["feed"], schema, windows_end=False), encoder


def _show_sample(sample: Sample) -> None:
    _say(f"File:         {sample.path}")
    if sample.schema is not None:
        how = " (guessed; give them as --input-schema to be sure)" if sample.is_guessed else ""
        _say(f"Columns{how}:\n  {sample.schema}")
    for note in sample.notes:
        _say(f"  Note: {note}")
    _say(f"Rows read:    {len(sample.rows)}")
    if sample.schema is not None:
        _say(show.table(sample.schema.names, _row_values(sample, sample.schema)))


def _row_values(sample: Sample, schema: Schema) -> list[tuple[Any, ...]]:
    if isinstance(sample.rows, pa.Table):
        return [tuple(row[name] for name in schema.names) for row in sample.rows.to_pylist()]
    batch = ExampleDecoder.for_input(schema).decode(sample.rows)
    return record_batch_to_tuples(batch, schema)


def _show_start(result: DryRunResult) -> None:
    _say(f"Script in:    {result.versions} ({result.interpreter})")
    if result.tensorflow_error:
        _say("  Note: this Python cannot import TensorFlow: " + result.tensorflow_error.splitlines()[-1])


def _show_result(options: ScriptOptions, result: DryRunResult) -> None:
    if options.output_schema is not None:
        _say(f"Rows written: {len(result.rows)}")
        if result.rows:
            _say(show.table(options.output_schema.names, [list(row.values()) for row in result.rows]))
    if result.model is not None:
        _show_model(result.model)
    if result.script_metrics:
        _say(f"Counted:      {show.pairs(result.script_metrics)}")
    if result.reported:
        _say(f"Reported:     {show.pairs(result.reported)}")
    for name, note in _NOTES.items():
        if result.package_metrics.get(name):
            _say(f"  Note: {result.package_metrics[name]} {note}.")
    if result.versions:
        _say(
            f"Seconds:      {result.start_s:.1f} to start and import TensorFlow, {_describe_run_time(options, result)}"
        )


def _describe_run_time(options: ScriptOptions, result: DryRunResult) -> str:
    if result.load_s is None:
        return f"{result.run_s:.1f} in the script"
    main_s = max(result.run_s - result.load_s, 0.0)
    return f"{result.load_s:.1f} to import the script, {main_s:.1f} in {options.entry}"


def _show_model(model: Any) -> None:
    signatures = json.loads(model.signatures)
    _say(f"Model:        {len(signatures)} signature{'s' * (len(signatures) != 1)}")
    for name, tensors in signatures.items():
        for direction in ("inputs", "outputs"):
            _say(f"  {name} {direction}: {_describe_tensors(tensors[direction])}")


def _describe_tensors(tensors: dict[str, Any]) -> str:
    return ", ".join(f"{name} {tensor['dtype']}{_describe_shape(tensor['shape'])}" for name, tensor in tensors.items())


def _describe_shape(shape: list[int | None] | None) -> str:
    if shape is None:
        return " of any shape"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]" if shape else ""


@contextlib.contextmanager
def _show_log(options: ScriptOptions) -> Iterator[None]:
    """Print the script's lines and the package's log records during the block, as they come."""
    logger = logging.getLogger("beam_tfscript")
    counts = None if options.cluster is None else options.cluster.counts
    has_one_task = options.num_workers == 1 and (counts is None or not counts.num_ps + counts.num_evaluators)
    handler = _Printer(options.script.name, has_one_task)
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


@dataclasses.dataclass(eq=False)
class _Printer(logging.Handler):
    """Prints log records: the script's lines after a bar, the package's messages as they are.

    Attributes:
      script: file name of the script.
      has_one_task: True if the script runs as one task, whose name the lines then leave out.
    """

    script: str
    has_one_task: bool

    def __post_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        label, text = getattr(record, "script_label", None), getattr(record, "script_text", "")
        if label is None:
            _say(record.getMessage())
            return
        # Until its first run, a process has the script's name as its label. TensorFlow prints these lines at its start.
        if label != self.script:
            task = "" if self.has_one_task else str(label).partition(" ")[2].rpartition(" attempt")[0] + " "
            for line in str(text).splitlines() or [""]:
                _say(f"  {task}| {line}")


def _say(text: str) -> None:
    print(text, flush=True)

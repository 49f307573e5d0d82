"""`beam-tfscript check`: a script on the first rows of a file, and what came of it, in words.

In come the parsed flags. Out goes text on stdout, what is wrong on stderr, and an exit status: 0 where all is well, 1
where the script, its environment or the rows failed, 2 where the flags cannot be used.
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
from beam_tfscript.cli.dry_run import Outcome, run_by_hand
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


def check(flags: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
      TFScriptError: something is wrong.
    """
    if flags.rows < 1:
        raise ArgumentError(f"--rows must be at least 1, got {flags.rows}.")
    if flags.train and flags.output_schema:
        raise ArgumentError("--train gives a model and no rows: leave out --output-schema.")
    schema = None if flags.input_schema is None else Schema.parse(flags.input_schema)
    sample = take_sample(flags.data, format_of(flags.data, flags.input_format), schema, rows=flags.rows)
    options, encoder = _plan(flags, sample)
    _show_sample(sample)
    outcome = Outcome()
    with _script_output(options), tempfile.TemporaryDirectory() as directory:
        try:
            run_by_hand(
                options, encoder, sample.rows, outcome,
                train_dir=directory if flags.train else None, on_start=lambda: _show_start(outcome),
            )  # fmt: skip
        finally:
            _show_outcome(options, outcome)
    _say("All is well.")
    return 0


def _plan(flags: argparse.Namespace, sample: Sample) -> tuple[ScriptOptions, RowEncoder]:
    """The options and the encoder that the transform would have; what fails, fails at once."""
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
        how = " (guessed; give it as input_schema)" if sample.is_guessed else ""
        _say(f"Columns{how}:\n  {sample.schema}")
    for note in sample.notes:
        _say(f"  Note: {note}")
    _say(f"Rows read:    {len(sample.rows)}")
    if sample.schema is not None:
        _say(show.table(sample.schema.names, _rows_of(sample, sample.schema)))


def _rows_of(sample: Sample, schema: Schema) -> list[tuple[Any, ...]]:
    if isinstance(sample.rows, pa.Table):
        return [tuple(row[name] for name in schema.names) for row in sample.rows.to_pylist()]
    batch = ExampleDecoder.for_input(schema).decode(sample.rows)
    return record_batch_to_tuples(batch, schema)


def _show_start(outcome: Outcome) -> None:
    _say(f"Script in:    {outcome.versions} ({outcome.python})")
    if outcome.tensorflow_error:
        _say("  Note: TensorFlow cannot be imported there: " + outcome.tensorflow_error.splitlines()[-1])


def _show_outcome(options: ScriptOptions, outcome: Outcome) -> None:
    if options.output_schema is not None:
        _say(f"Rows written: {len(outcome.rows)}")
        if outcome.rows:
            _say(show.table(options.output_schema.names, [list(row.values()) for row in outcome.rows]))
    if outcome.model is not None:
        _show_model(outcome.model)
    if outcome.counted:
        _say(f"Counted:      {show.pairs(outcome.counted)}")
    if outcome.reported:
        _say(f"Reported:     {show.pairs(outcome.reported)}")
    for name, what in (
        ("doubles_rounded", "values of double columns lost digits, as an Example has 32 bits: float64 keeps them"),
        ("doubles_infinite", "of them became infinite: they are beyond 3.4e38"),
        ("rows_unread", "rows were left unread by config.stop()"),
    ):
        if outcome.own.get(name):
            _say(f"  Note: {outcome.own[name]} {what}.")
    if outcome.versions:
        _say(f"Seconds:      {outcome.start_s:.1f} to start and import TensorFlow, {_describe_run(options, outcome)}")


def _describe_run(options: ScriptOptions, outcome: Outcome) -> str:
    if outcome.load_s is None:
        return f"{outcome.run_s:.1f} in the script"
    main_s = max(outcome.run_s - outcome.load_s, 0.0)
    return f"{outcome.load_s:.1f} to import the script, {main_s:.1f} in {options.entry}"


def _show_model(model: Any) -> None:
    signatures = json.loads(model.signatures)
    _say(f"Model:        {len(signatures)} signature{'s' * (len(signatures) != 1)}")
    for name, ends in signatures.items():
        for way in ("inputs", "outputs"):
            _say(f"  {name} {way}: {_describe_tensors(ends[way])}")


def _describe_tensors(tensors: dict[str, Any]) -> str:
    return ", ".join(f"{name} {tensor['dtype']}{_describe_shape(tensor['shape'])}" for name, tensor in tensors.items())


def _describe_shape(shape: list[int | None] | None) -> str:
    if shape is None:
        return " of any shape"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]" if shape else ""


@contextlib.contextmanager
def _script_output(options: ScriptOptions) -> Iterator[None]:
    """Shows what the script prints, as it comes, and what the package logs meanwhile."""
    logger = logging.getLogger("beam_tfscript")
    counts = None if options.cluster is None else options.cluster.counts
    is_alone = options.num_workers == 1 and (counts is None or not counts.num_ps + counts.num_evaluators)
    handler = _Printer(options.script.name, is_alone)
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
    """Prints log records: the script's behind a bar, those of the package as they are."""

    script: str
    is_alone: bool

    def __post_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        label, text = getattr(record, "script_label", None), getattr(record, "script_text", "")
        if label is None:
            _say(record.getMessage())
            return
        # Before its first run the process has the script's name only: that is what TensorFlow says when it starts.
        if label != self.script:
            place = "" if self.is_alone else str(label).partition(" ")[2].rpartition(" attempt")[0] + " "
            for line in str(text).splitlines() or [""]:
                _say(f"  {place}| {line}")


def _say(text: str) -> None:
    print(text, flush=True)

"""`beam-tfscript run`: run a script over whole files on any Beam runner; its output is files or a model.

In come the parsed flags and Beam's flags. Out go files, a progress line on a terminal, and the totals.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript.cli import formats
from beam_tfscript.cli.arguments import transform_arguments
from beam_tfscript.cli.progress import CountRows, Progress, counters_of, log_prefix, summary
from beam_tfscript.cli.row_files import ReadRows, WriteRows
from beam_tfscript.cli.sample import GUESS_ROWS, take_sample
from beam_tfscript.cli.unknown_flags import check_beam_flags
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError
from beam_tfscript.models.version_names import version_of
from beam_tfscript.transforms.run_tf_script import RunTFScript
from beam_tfscript.transforms.train_tf_script import TrainTFScript


def run(flags: argparse.Namespace, beam_flags: list[str], own_flags: Sequence[str]) -> int:
    """Run the command; return its exit status, 0.

    Args:
      flags: the command's own flags, parsed.
      beam_flags: the rest of the command line.
      own_flags: names of the command's own flags.

    Raises:
      TFScriptError: flags, schema or files cannot be used.
      RuntimeError: the job failed.
    """
    check_beam_flags(beam_flags, own_flags)
    _check_flags(flags)
    input_format = formats.format_of(flags.input, flags.input_format)
    schema = _input_schema(flags, input_format)
    has_output = flags.output_schema is not None
    with Progress(has_output=has_output) as progress:
        _show_log(log_prefix(is_progress_shown=progress.is_shown))
        pipeline = _make_pipeline(beam_flags)
        _add_stages(pipeline, flags, input_format, schema, is_counted=progress.is_shown)
        progress.begin()
        result = pipeline.run()
        progress.watch(result)
        result.wait_until_finish()
    print(summary(counters_of(result), progress.seconds, has_output=has_output))
    if flags.train:
        print(f"Model: {_newest_version(flags.model_dir)}")
    return 0


def _input_schema(flags: argparse.Namespace, input_format: str) -> Schema | None:
    """Return the columns of the input, given or guessed; None for records that are not Examples."""
    if flags.input_schema is not None:
        schema = Schema.parse(flags.input_schema)
        formats.first_file(flags.input)  # a pattern without files fails here, before the job
        return schema
    sample = take_sample(flags.input, input_format, None, rows=GUESS_ROWS)
    if sample.schema is not None:
        print(f"Columns, guessed from {sample.path} (give them as --input-schema to be sure):\n  {sample.schema}")
    for note in sample.notes:
        print(f"  Note: {note}")
    return sample.schema


def _make_pipeline(beam_flags: list[str]) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=PipelineOptions(beam_flags))
    except ValueError as error:  # such as an unknown runner
        raise ArgumentError(f"Beam refuses its flags: {error}") from error


def _add_stages(
    pipeline: beam.Pipeline, flags: argparse.Namespace, input_format: str, schema: Schema | None, *, is_counted: bool
) -> None:
    """Add all steps of the job to a pipeline; `is_counted` adds steps that count rows for the progress line."""
    rows = pipeline | "Read" >> ReadRows(flags.input, input_format, schema)
    if is_counted:
        rows = rows | "Count read" >> beam.ParDo(CountRows("read")).with_output_types(rows.element_type)
    arguments = transform_arguments(flags, input_schema=None if schema is None else str(schema))
    arguments.update(feed=flags.feed)
    if flags.max_attempts is not None:
        arguments.update(max_attempts=flags.max_attempts)
    if flags.train:
        _train(rows, flags, arguments)
    else:
        _write_rows(rows, flags, arguments, flags.format or input_format, is_counted=is_counted)


def _show_log(prefix: str) -> None:
    """Show this package's log records from INFO on stderr, with the scripts' lines; Beam's from its own level."""
    logging.basicConfig(format=prefix + "%(message)s")
    logging.getLogger("beam_tfscript").setLevel(logging.INFO)


def _check_flags(flags: argparse.Namespace) -> None:
    if flags.train:
        if flags.model_dir is None:
            raise ArgumentError("--train needs --model-dir: give the directory where the model is published.")
        if flags.output_schema is not None:
            raise ArgumentError("--train makes a model, and no rows: leave out --output-schema.")
    elif flags.model_dir is not None:
        raise ArgumentError("--model-dir is for a training: add --train, or leave out --model-dir.")
    elif (flags.output is None) != (flags.output_schema is None):
        missing = "--output, the prefix of the files" if flags.output is None else "--output-schema, the rows' columns"
        raise ArgumentError(f"--output and --output-schema go together: add {missing}, or leave out both.")


def _write_rows(
    rows: Any, flags: argparse.Namespace, arguments: dict[str, Any], file_format: str, *, is_counted: bool
) -> None:
    """Add a run of the script and, if it has an output schema, the files of its output."""
    schema = None if flags.output_schema is None else Schema.parse(flags.output_schema)
    if file_format == "csv" and any(not column.is_scalar for column in schema or ()):
        raise ArgumentError(
            "CSV has no arrays: give --format jsonl, parquet or tfrecord, or leave the arrays out of --output-schema."
        )
    output_as = "example" if file_format == "tfrecord" else "record_batch"
    written = rows | "Script" >> RunTFScript(output_schema=schema, output_as=output_as, **arguments)
    if schema is None:
        return
    if is_counted:
        written = written | "Count written" >> beam.ParDo(CountRows("written")).with_output_types(written.element_type)
    _ = written | "Write" >> WriteRows(flags.output, file_format, schema)


def _train(rows: Any, flags: argparse.Namespace, arguments: dict[str, Any]) -> None:
    """Add a training; with --output, also a file with one line of JSON per model."""
    models = rows | "Train" >> TrainTFScript(model_dir=flags.model_dir, **arguments)
    if flags.output is not None:
        lines = models | "Text" >> beam.Map(lambda model: json.dumps(model._asdict())).with_output_types(str)
        _ = lines | "Write" >> beam.io.WriteToText(flags.output, ".jsonl")


def _newest_version(model_dir: str) -> str:
    """Return the path of the newest version in a model directory; `none` if it has no version."""
    files: Iterable[Any] = FileSystems.match([FileSystems.join(model_dir, "*", "saved_model.pb*")])[0].metadata_list
    versions = {version_of(file.path.replace("\\", "/").split("/")[-2]) for file in files}
    return FileSystems.join(model_dir, str(max(versions))) if versions else "none"

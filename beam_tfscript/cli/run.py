"""`beam-tfscript run`: run a script over whole files on any Beam runner; its output is files or a model.

In come the parsed flags and Beam's flags. Out go files, a progress line on a terminal, and the totals.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.cli import job
from beam_tfscript.cli.arguments import transform_arguments
from beam_tfscript.cli.progress import Progress, counters_of, log_prefix, summary
from beam_tfscript.cli.unknown_flags import check_beam_flags
from beam_tfscript.errors import ArgumentError
from beam_tfscript.models.version_names import version_of


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
    source = job.find_input(flags.input, flags.input_format, flags.input_schema)
    has_output = flags.output_schema is not None
    with Progress(has_output=has_output) as progress:
        _show_log(log_prefix(is_progress_shown=progress.is_shown))
        pipeline = job.make_pipeline(beam_flags)
        _add_stages(pipeline, flags, source, is_counted=progress.is_shown)
        progress.begin()
        result = pipeline.run()
        progress.watch(result)
        result.wait_until_finish()
    print(summary(counters_of(result), progress.seconds, has_output=has_output))
    if flags.train:
        print(f"Model: {_newest_version(flags.model_dir)}")
    return 0


def _add_stages(pipeline: beam.Pipeline, flags: argparse.Namespace, source: job.Input, *, is_counted: bool) -> None:
    """Add all steps of the job to a pipeline; `is_counted` adds steps that count rows for the progress line."""
    rows = job.read_rows(pipeline, source, is_counted=is_counted)
    arguments = transform_arguments(flags, input_schema=None if source.schema is None else str(source.schema))
    arguments.update(feed=flags.feed)
    if flags.max_attempts is not None:
        arguments.update(max_attempts=flags.max_attempts)
    if flags.train:
        job.add_training(rows, {**arguments, "model_dir": flags.model_dir}, flags.output)
        return
    output = None
    if flags.output_schema is not None:
        output = job.find_output(flags.output, flags.format, source, table_mode=flags.table_mode)
    arguments.update(output_schema=flags.output_schema)
    job.add_script(rows, arguments, output, is_counted=is_counted)


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


def _newest_version(model_dir: str) -> str:
    """Return the path of the newest version in a model directory; `none` if it has no version."""
    files: Iterable[Any] = FileSystems.match([FileSystems.join(model_dir, "*", "saved_model.pb*")])[0].metadata_list
    versions = {version_of(file.path.replace("\\", "/").split("/")[-2]) for file in files}
    return FileSystems.join(model_dir, str(max(versions))) if versions else "none"

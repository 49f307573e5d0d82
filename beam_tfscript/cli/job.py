"""Stages between files of rows, a script, and files of its output or a model; for `run` and for the Dataflow template.

In come a pipeline, the files' names and formats, and the arguments of the transforms. Out go the steps of the job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript.cli import formats
from beam_tfscript.cli.progress import CountRows
from beam_tfscript.cli.row_files import ReadRows, WriteRows
from beam_tfscript.cli.sample import GUESS_ROWS, take_sample
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError
from beam_tfscript.io.found_files import first_file
from beam_tfscript.tables.addresses import is_table
from beam_tfscript.transforms.run_tf_script import RunTFScript
from beam_tfscript.transforms.train_tf_script import TrainTFScript


class Input(NamedTuple):
    """Files of rows, or a table.

    Attributes:
      pattern: a path, URI or pattern; or the address of a table.
      file_format: a key of `formats.SUFFIXES`, or `formats.TABLE`.
      schema: the columns; None for records that are not Examples, which the script gets unread.
    """

    pattern: str
    file_format: str
    schema: Schema | None


class Output(NamedTuple):
    """Files to write, or a table.

    Attributes:
      prefix: prefix of the files' names; or the address of a table.
      file_format: a key of `formats.SUFFIXES`, or `formats.TABLE`.
      table_mode: `append` to a table, or `overwrite` its rows.
    """

    prefix: str
    file_format: str
    table_mode: str = "append"


def find_input(pattern: str, file_format: str | None, schema: str | Schema | None) -> Input:
    """Return the input; guess the format from the files' suffix, and the columns from the first file, if not given.

    Raises:
      ArgumentError: no file matches, or the format cannot be told.
      RowError: the first file cannot be read.
      SchemaError: the columns cannot be parsed or guessed.
    """
    file_format = formats.format_of(pattern, file_format)
    if schema is not None:
        parsed = Schema.parse(schema) if isinstance(schema, str) else schema
        if file_format != formats.TABLE:  # a table is looked up when its transform is made
            first_file(pattern)  # a pattern without files fails here, before the job
        return Input(pattern, file_format, parsed)
    sample = take_sample(pattern, file_format, None, rows=GUESS_ROWS)
    if sample.schema is not None:
        print(f"Columns, guessed from {sample.path} (give them as the input schema to be sure):\n  {sample.schema}")
    for note in sample.notes:
        print(f"  Note: {note}")
    return Input(pattern, file_format, sample.schema)


def find_output(prefix: str, file_format: str | None, source: Input, *, table_mode: str | None = None) -> Output:
    """Return the output; its format is that of the input, if it is not given.

    Raises:
      ArgumentError: the format is not known, or `table_mode` is given for files.
    """
    if is_table(prefix):
        return Output(prefix, formats.format_of(prefix, file_format), table_mode or "append")
    if table_mode is not None:
        raise ArgumentError(f"The table mode {table_mode} is for a table, and the output is files: leave it out.")
    if file_format is None and source.file_format == formats.TABLE:
        raise ArgumentError(
            "The input is a table, so the format of the output is not known: give one of "
            f"{', '.join(formats.SUFFIXES)}."
        )
    return Output(prefix, file_format or source.file_format)


def make_pipeline(beam_flags: list[str]) -> beam.Pipeline:
    """Return a pipeline with Beam's flags.

    Raises:
      ArgumentError: Beam refuses a flag.
    """
    try:
        return beam.Pipeline(options=PipelineOptions(beam_flags))
    except ValueError as error:  # such as an unknown runner
        raise ArgumentError(f"Beam refuses its flags: {error}") from error


def read_rows(pipeline: beam.Pipeline, source: Input, *, is_counted: bool = False) -> Any:
    """Add the steps that read the rows; `is_counted` adds one that counts them for the progress line."""
    rows = pipeline | "Read" >> ReadRows(source.pattern, source.file_format, source.schema)
    if is_counted:
        rows = rows | "Count read" >> beam.ParDo(CountRows("read")).with_output_types(rows.element_type)
    return rows


def add_script(
    rows: Any,
    arguments: Mapping[str, Any],
    output: Output | None,
    *,
    is_counted: bool = False,
    resource_hints: Mapping[str, Any] | None = None,
) -> None:
    """Add a run of the script and, if it has an output schema, the files of its output.

    Args:
      rows: the input.
      arguments: arguments of `RunTFScript`.
      output: the files to write; None if the script writes no rows.
      is_counted: True to count the output's rows for the progress line.
      resource_hints: Beam's hints for the machines that run the script.

    Raises:
      ArgumentError: the output's format cannot hold its columns, or an argument cannot be used.
    """
    schema = arguments.get("output_schema")
    if isinstance(schema, str):
        schema = Schema.parse(schema)
    output_as = "record_batch"
    if output is not None:
        _check_format(output, schema)
        output_as = "examples" if output.file_format == "tfrecord" else output_as
    script = RunTFScript(**{**arguments, "output_schema": schema, "output_as": output_as})
    written = rows | "Script" >> script.with_resource_hints(**(resource_hints or {}))
    if output is None or schema is None:
        return
    if is_counted:
        written = written | "Count written" >> beam.ParDo(CountRows("written")).with_output_types(written.element_type)
    _ = written | "Write" >> WriteRows(output.prefix, output.file_format, schema, table_mode=output.table_mode)


def add_training(rows: Any, arguments: Mapping[str, Any], models_prefix: str | None) -> None:
    """Add a training; with a prefix, also a file with one line of JSON per model."""
    models = rows | "Train" >> TrainTFScript(**arguments)
    if models_prefix is not None:
        lines = models | "Text" >> beam.Map(lambda model: json.dumps(model._asdict())).with_output_types(str)
        _ = lines | "Write" >> beam.io.WriteToText(models_prefix, ".jsonl")


def _check_format(output: Output, schema: Schema | None) -> None:
    if output.file_format == "csv" and any(not column.is_scalar for column in schema or ()):
        raise ArgumentError(
            "CSV has no arrays: write jsonl, parquet or tfrecord, or leave the arrays out of the output schema."
        )

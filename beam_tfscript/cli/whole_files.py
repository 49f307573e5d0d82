"""`beam-tfscript run`: files of rows through a script, on any Beam runner, to files again or to a model.

In come the parsed flags and Beam's own. Out go files, a line of progress on a terminal, and what was counted.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.csv
from apache_beam.io import fileio
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript.cli import formats
from beam_tfscript.cli.arguments import transform_arguments
from beam_tfscript.cli.progress import Progress, Tap, counters_of, summary
from beam_tfscript.cli.sample import GUESS_ROWS, take_sample
from beam_tfscript.cli.unknown_flags import check_beam_flags
from beam_tfscript.data.plain_arrow import plain_schema
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError
from beam_tfscript.models.version_names import version_of
from beam_tfscript.transforms.run_tf_script import RunTFScript
from beam_tfscript.transforms.train_tf_script import TrainTFScript


def run(flags: argparse.Namespace, beam_flags: list[str], own: Sequence[str]) -> int:
    """Runs the command.

    Args:
      flags: what the command knows of the command line.
      beam_flags: the rest of it.
      own: the names of the flags that the command knows.

    Raises:
      TFScriptError: something is wrong that can be seen before the job runs.
      RuntimeError: the job failed.
    """
    check_beam_flags(beam_flags, own)
    _check_flags(flags)
    input_format = formats.format_of(flags.input, flags.input_format)
    schema = None if flags.input_schema is None else Schema.parse(flags.input_schema)
    if schema is None:
        sample = take_sample(flags.input, input_format, None, rows=GUESS_ROWS)
        schema = sample.schema
        print(f"Columns, guessed from {sample.path} (give them as --input-schema to be sure):\n  {schema}")
        for note in sample.notes:
            print(f"  Note: {note}")
    formats.first_file(flags.input)
    has_output = flags.output_schema is not None
    with Progress(has_output=has_output) as progress:
        _show_log(over_progress=progress.is_shown)
        pipeline = _make_pipeline(beam_flags)
        rows = pipeline | "Read" >> ReadRows(flags.input, input_format, schema)
        if progress.is_shown:
            rows = rows | "Count read" >> beam.ParDo(Tap("read")).with_output_types(rows.element_type)
        arguments = transform_arguments(flags, input_schema=None if schema is None else str(schema))
        arguments.update(feed=flags.feed)
        if flags.max_attempts is not None:
            arguments.update(max_attempts=flags.max_attempts)
        if flags.train:
            _train(rows, flags, arguments)
        else:
            _write_rows(rows, flags, arguments, flags.format or input_format, is_counted=progress.is_shown)
        progress.begin()
        result = pipeline.run()
        progress.watch(result)
        result.wait_until_finish()
    print(summary(counters_of(result), progress.seconds, has_output=has_output))
    if flags.train:
        print(f"Model: {_newest_version(flags.model_dir)}")
    return 0


def _make_pipeline(beam_flags: list[str]) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=PipelineOptions(beam_flags))
    except ValueError as error:  # such as a runner that there is not
        raise ArgumentError(f"Beam refuses its flags: {error}") from error


def _show_log(*, over_progress: bool) -> None:
    """What scripts print on local engines, and what this package says, on stderr; Beam's own as Beam does."""
    erase = "\r\x1b[2K" if over_progress and sys.stderr.isatty() else ""
    logging.basicConfig(format=erase + "%(message)s")
    logging.getLogger("beam_tfscript").setLevel(logging.INFO)


def _check_flags(flags: argparse.Namespace) -> None:
    if flags.train:
        if flags.model_dir is None:
            raise ArgumentError("--train needs --model-dir, where the model is published.")
        if flags.output_schema is not None:
            raise ArgumentError("--train gives a model and no rows: leave out --output-schema.")
    elif flags.model_dir is not None:
        raise ArgumentError("--model-dir is for a training: give --train, too.")
    elif (flags.output is None) != (flags.output_schema is None):
        raise ArgumentError("--output and --output-schema go together: where rows are written, and what they have.")


class ReadRows(beam.PTransform):
    """Files -> serialized Examples, or Arrow batches of the columns.

    Args:
      pattern: a path, URI or pattern.
      file_format: which of `formats.SUFFIXES`.
      schema: the columns.
    """

    def __init__(self, pattern: str, file_format: str, schema: Schema | None):
        super().__init__()
        self._pattern = formats.in_directory(pattern)
        self._format = file_format
        self._schema = schema

    def expand(self, pipeline):
        """Beam's own reading where it has one for batches."""
        if self._format == "tfrecord":
            return pipeline | beam.io.ReadFromTFRecord(self._pattern).with_output_types(bytes)
        if self._format == "parquet":
            columns = None if self._schema is None else list(self._schema.names)
            return pipeline | beam.io.ReadFromParquetBatched(self._pattern, columns=columns).with_output_types(pa.Table)
        return (
            pipeline
            | "Match" >> fileio.MatchFiles(self._pattern)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(_ReadFile(self._format, self._schema)).with_output_types(pa.RecordBatch)
        )


class _ReadFile(beam.DoFn):
    """A matched file -> its rows as Arrow batches."""

    def __init__(self, file_format: str, schema: Schema | None):
        self._format = file_format
        self._schema = schema

    def process(self, metadata: Any) -> Iterator[pa.RecordBatch]:
        with formats.opened(metadata.path) as file:
            yield from formats.read_batches(file, self._format, self._schema)


def _write_rows(
    rows: Any, flags: argparse.Namespace, arguments: dict[str, Any], form: str, *, is_counted: bool
) -> None:
    schema = None if flags.output_schema is None else Schema.parse(flags.output_schema)
    if form == "csv" and any(not column.is_scalar for column in schema or ()):
        raise ArgumentError(
            "CSV has no arrays: give --format jsonl, parquet or tfrecord, or an --output-schema without."
        )
    output_as = "example" if form == "tfrecord" else "record_batch"
    written = rows | "Script" >> RunTFScript(output_schema=schema, output_as=output_as, **arguments)
    if schema is None:
        return
    if is_counted:
        written = written | "Count written" >> beam.ParDo(Tap("written")).with_output_types(written.element_type)
    _ = written | "Write" >> WriteBatches(flags.output, form, schema)


class WriteBatches(beam.PTransform):
    """Arrow batches, or serialized Examples for TFRecord -> files.

    Args:
      prefix: how the files' names begin.
      file_format: which of `formats.SUFFIXES`.
      schema: the columns.
    """

    def __init__(self, prefix: str, file_format: str, schema: Schema):
        super().__init__()
        self._prefix = prefix
        self._format = file_format
        self._schema = schema

    def expand(self, batches):
        """Beam's own writing; batches, never rows, become text."""
        suffix = formats.SUFFIXES[self._format][0]
        if self._format == "tfrecord":
            return batches | beam.io.WriteToTFRecord(self._prefix, file_name_suffix=suffix)
        if self._format == "parquet":
            tables = batches | "Table" >> beam.Map(lambda batch: pa.Table.from_batches([batch]))
            return tables | beam.io.WriteToParquetBatched(
                self._prefix, plain_schema(self._schema), file_name_suffix=suffix
            )
        to_text, header = json_lines, None
        if self._format == "csv":
            empty = pa.RecordBatch.from_pylist([], schema=plain_schema(self._schema))
            to_text, header = csv_lines, csv_lines(empty, header=True)
        return (
            batches
            | "Text" >> beam.Map(to_text).with_output_types(str)
            | beam.io.WriteToText(self._prefix, suffix, append_trailing_newlines=False, header=header)
        )


def csv_lines(batch: pa.RecordBatch, *, header: bool = False) -> str:
    """A batch as lines of CSV."""
    text = io.BytesIO()
    pyarrow.csv.write_csv(batch, text, pyarrow.csv.WriteOptions(include_header=header))
    return text.getvalue().decode("utf-8")


def json_lines(batch: pa.RecordBatch) -> str:
    """A batch as lines of JSON; dates, times and decimals as text, bytes in base64."""
    return "".join(json.dumps(row, default=_to_json, ensure_ascii=False) + "\n" for row in batch.to_pylist())


def _to_json(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _train(rows: Any, flags: argparse.Namespace, arguments: dict[str, Any]) -> None:
    models = rows | "Train" >> TrainTFScript(model_dir=flags.model_dir, **arguments)
    if flags.output is not None:
        lines = models | "Text" >> beam.Map(lambda model: json.dumps(model._asdict())).with_output_types(str)
        _ = lines | "Write" >> beam.io.WriteToText(flags.output, ".jsonl")


def _newest_version(model_dir: str) -> str:
    files: Iterable[Any] = FileSystems.match([FileSystems.join(model_dir, "*", "saved_model.pb*")])[0].metadata_list
    versions = {version_of(file.path.replace("\\", "/").split("/")[-2]) for file in files}
    return FileSystems.join(model_dir, str(max(versions))) if versions else "none"

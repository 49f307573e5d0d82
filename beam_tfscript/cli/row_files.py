"""Beam transforms between files of rows or tables, in each format of `formats.py`, and Arrow batches or Examples."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.csv
from apache_beam.io import fileio

from beam_tfscript.cli import formats
from beam_tfscript.data.plain_arrow import plain_schema
from beam_tfscript.data.schema import Schema
from beam_tfscript.tables.read_from_maxcompute import ReadFromMaxCompute
from beam_tfscript.tables.write_to_maxcompute import WriteToMaxCompute


class ReadRows(beam.PTransform):
    """Files -> serialized Examples, or Arrow batches of the columns.

    Args:
      pattern: a path, URI or pattern; or the address of a table.
      file_format: a key of `formats.SUFFIXES`, or `formats.TABLE`.
      schema: the columns; None for all columns.
    """

    def __init__(self, pattern: str, file_format: str, schema: Schema | None):
        super().__init__()
        self._pattern = formats.in_directory(pattern)
        self._format = file_format
        self._schema = schema

    def expand(self, pipeline):
        """Read with Beam's own source where it has one that reads batches, else with Arrow's readers."""
        if self._format == formats.TABLE:
            return pipeline | ReadFromMaxCompute.from_uri(self._pattern, schema=self._schema, output_as="record_batch")
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


class WriteRows(beam.PTransform):
    """Arrow batches, or serialized Examples for TFRecord -> files.

    Args:
      prefix: prefix of the files' names; or the address of a table.
      file_format: a key of `formats.SUFFIXES`, or `formats.TABLE`.
      schema: the columns.
      table_mode: mode of `WriteToMaxCompute`.
    """

    def __init__(self, prefix: str, file_format: str, schema: Schema, *, table_mode: str = "append"):
        super().__init__()
        self._prefix = prefix
        self._format = file_format
        self._schema = schema
        self._table_mode = table_mode

    def expand(self, batches):
        """Write with Beam's own sinks; for text formats, an element is the text of a whole batch."""
        if self._format == formats.TABLE:
            return batches | WriteToMaxCompute.from_uri(self._prefix, mode=self._table_mode, schema=self._schema)
        suffix = formats.SUFFIXES[self._format][0]
        if self._format == "tfrecord":
            return batches | beam.io.WriteToTFRecord(self._prefix, file_name_suffix=suffix)
        if self._format == "parquet":
            tables = batches | "Table" >> beam.Map(lambda batch: pa.Table.from_batches([batch]))
            return tables | beam.io.WriteToParquetBatched(
                self._prefix, plain_schema(self._schema), file_name_suffix=suffix
            )
        to_text, header = _json_lines, None
        if self._format == "csv":
            empty = pa.RecordBatch.from_pylist([], schema=plain_schema(self._schema))
            to_text, header = _csv_lines, _csv_lines(empty, header=True)
        return (
            batches
            | "Text" >> beam.Map(to_text).with_output_types(str)
            | beam.io.WriteToText(self._prefix, suffix, append_trailing_newlines=False, header=header)
        )


def _csv_lines(batch: pa.RecordBatch, *, header: bool = False) -> str:
    """Return a batch as lines of CSV, with a first line of column names if `header` is True."""
    text = io.BytesIO()
    pyarrow.csv.write_csv(batch, text, pyarrow.csv.WriteOptions(include_header=header))
    return text.getvalue().decode("utf-8")


def _json_lines(batch: pa.RecordBatch) -> str:
    """Return a batch as lines of JSON; dates, times and decimals are text, bytes are base64."""
    return "".join(json.dumps(row, default=_to_json, ensure_ascii=False) + "\n" for row in batch.to_pylist())


def _to_json(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

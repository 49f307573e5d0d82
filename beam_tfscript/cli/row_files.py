"""Transforms between files of rows, in each format of `formats.py`, or tables, and batches of rows.

A batch is a chunk of serialized Examples for TFRecord files, and Arrow data for all other files and for tables.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_tfscript.cli import formats
from beam_tfscript.data.schema import Schema
from beam_tfscript.io.arrow_files import ReadCsv, ReadJsonLines, WriteCsv, WriteJsonLines, WriteParquet
from beam_tfscript.io.example_files import ReadExamples, WriteExamples
from beam_tfscript.io.found_files import in_directory
from beam_tfscript.tables.read_from_maxcompute import ReadFromMaxCompute
from beam_tfscript.tables.write_to_maxcompute import WriteToMaxCompute


class ReadRows(beam.PTransform):
    """Files -> chunks of Examples, or Arrow batches of the columns.

    Args:
      pattern: a path, URI or pattern; or the address of a table.
      file_format: a key of `formats.SUFFIXES`, or `formats.TABLE`.
      schema: the columns; None for records that are not Examples.
    """

    def __init__(self, pattern: str, file_format: str, schema: Schema | None):
        super().__init__()
        self._pattern = pattern
        self._format = file_format
        self._schema = schema

    def expand(self, pipeline):
        """Read batches of rows, with Beam's own source where it has one."""
        if self._format == formats.TABLE:
            return pipeline | ReadFromMaxCompute.from_uri(self._pattern, schema=self._schema, output_as="record_batch")
        if self._format == "tfrecord":
            return pipeline | ReadExamples(self._pattern)
        assert self._schema is not None
        if self._format == "parquet":
            read = beam.io.ReadFromParquetBatched(in_directory(self._pattern), columns=list(self._schema.names))
            return pipeline | read.with_output_types(pa.Table)
        return pipeline | {"csv": ReadCsv, "jsonl": ReadJsonLines}[self._format](self._pattern, self._schema)


class WriteRows(beam.PTransform):
    """Chunks of Examples for TFRecord, or Arrow batches -> files.

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
        """Write batches of rows."""
        if self._format == formats.TABLE:
            return batches | WriteToMaxCompute.from_uri(self._prefix, mode=self._table_mode, schema=self._schema)
        suffix = formats.SUFFIXES[self._format][0]
        if self._format == "tfrecord":
            return batches | WriteExamples(self._prefix, file_name_suffix=suffix)
        writers: dict[str, Any] = {"csv": WriteCsv, "jsonl": WriteJsonLines, "parquet": WriteParquet}
        return batches | writers[self._format](self._prefix, self._schema, file_name_suffix=suffix)

"""Beam's sinks for batches: an element is many rows of a file.

Beam's `FileBasedSink` writes to temporary names, and renames the files of the bundles that succeeded. So a repeated
bundle leaves no second file.
"""

from __future__ import annotations

import base64
import copy
import io
import json
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from apache_beam.coders import BytesCoder
from apache_beam.io.filebasedsink import (
    DEFAULT_SHARD_NAME_TEMPLATE,
    DEFAULT_WINDOW_SHARD_NAME_TEMPLATE,
    FileBasedSink,
)

from beam_tfscript.data import tfrecord
from beam_tfscript.data.example_chunk import ExampleChunk
from beam_tfscript.errors import OutputError

# Size of a row group of a Parquet file. A smaller one makes a file slower to read; a larger one takes more memory.
_ROW_GROUP_BYTES = 32 << 20


class BatchSink(FileBasedSink):
    """Sink whose elements are batches of rows.

    Args:
      prefix: prefix of the files' names.
      suffix: suffix of the files' names.
      arguments: further arguments of `FileBasedSink`.
    """

    def __init__(self, prefix: str, suffix: str, **arguments: Any):
        super().__init__(prefix, BytesCoder(), suffix, **arguments)
        self.shard_name_template: str

    def for_input(self, is_bounded: bool) -> BatchSink:
        """Return this sink; for unbounded input, one whose files are named by their window, as in Beam's own sinks."""
        if is_bounded or self.shard_name_template != DEFAULT_SHARD_NAME_TEMPLATE:
            return self
        sink = copy.copy(self)
        sink.shard_name_template = DEFAULT_WINDOW_SHARD_NAME_TEMPLATE
        sink.shard_name_format = self._template_to_format(sink.shard_name_template)
        sink.shard_name_glob_format = self._template_to_glob_format(sink.shard_name_template)
        return sink


class ExampleSink(BatchSink):
    """Chunks of Examples, or single serialized Examples -> TFRecord files."""

    def write_record(self, file_handle: IO[bytes], value: Any) -> None:
        """Write one element."""
        if isinstance(value, ExampleChunk):
            file_handle.write(value.framed)
        elif isinstance(value, bytes):
            file_handle.write(tfrecord.frame([value]))
        else:
            raise OutputError(
                f"WriteExamples takes chunks of Examples, and serialized Examples, got a {type(value).__name__}: give "
                'the transform before output_as="examples".'
            )


class ArrowSink(BatchSink):
    """Record batches and tables -> files.

    Args:
      prefix: prefix of the files' names.
      suffix: suffix of the files' names.
      schema: Arrow schema of the batches.
      arguments: further arguments of `FileBasedSink`.
    """

    def __init__(self, prefix: str, suffix: str, schema: pa.Schema, **arguments: Any):
        super().__init__(prefix, suffix, **arguments)
        self._schema = schema

    def write_record(self, file_handle: Any, value: Any) -> None:
        """Write one element."""
        if isinstance(value, pa.RecordBatch):
            value = pa.Table.from_batches([value])
        if not isinstance(value, pa.Table):
            raise OutputError(
                f"This sink takes Arrow record batches and tables, got a {type(value).__name__}: give the transform "
                'before output_as="record_batch".'
            )
        self._write(file_handle, self._fit(value))

    def _fit(self, table: pa.Table) -> pa.Table:
        """Return a table of the sink's schema.

        Raises:
          OutputError: the columns are others.
        """
        try:
            return table.select(self._schema.names).cast(self._schema)
        except (KeyError, pa.ArrowException, ValueError) as error:
            raise OutputError(
                f"The columns of a batch do not fit the schema of its file: {error}. The batch has {_text(table)}, and "
                f"the file {_text(self._schema)}."
            ) from error

    def _write(self, file_handle: Any, table: pa.Table) -> None:
        raise NotImplementedError


class CsvSink(ArrowSink):
    """Record batches and tables -> CSV files with a line of column names."""

    def open(self, temp_path: str) -> Any:
        """Open a file, and write its first line."""
        file = super().open(temp_path)
        file.write(_csv_lines(self._schema.empty_table(), has_header=True))
        return file

    def _write(self, file_handle: IO[bytes], table: pa.Table) -> None:
        file_handle.write(_csv_lines(table))


class JsonLinesSink(ArrowSink):
    """Record batches and tables -> files with a JSON object per line."""

    def _write(self, file_handle: IO[bytes], table: pa.Table) -> None:
        # Arrow has no writer of JSON.
        table = pa.table([_as_text(column) for column in table.columns], names=table.column_names)
        lines = [json.dumps(row, default=_to_json, ensure_ascii=False) + "\n" for row in table.to_pylist()]
        file_handle.write("".join(lines).encode("utf-8"))


class ParquetSink(ArrowSink):
    """Record batches and tables -> Parquet files.

    Args:
      prefix: prefix of the files' names.
      suffix: suffix of the files' names.
      schema: Arrow schema of the batches.
      codec: compression of the columns, such as `snappy`, `zstd` or `none`.
      arguments: further arguments of `FileBasedSink`.
    """

    def __init__(self, prefix: str, suffix: str, schema: pa.Schema, codec: str, **arguments: Any):
        super().__init__(prefix, suffix, schema, **arguments)
        self._codec = codec

    def open(self, temp_path: str) -> Any:
        """Open a file."""
        return _ParquetFile(super().open(temp_path), self._schema, self._codec)

    def _write(self, file_handle: Any, table: pa.Table) -> None:
        file_handle.write(table)


class _ParquetFile:
    """Parquet file that is written a row group at a time."""

    def __init__(self, file: Any, schema: pa.Schema, codec: str):
        self._file = file
        self._writer = pyarrow.parquet.ParquetWriter(file, schema, compression=codec)
        self._tables: list[pa.Table] = []
        self._bytes = 0

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows and the file's footer."""
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._tables:
            table = pa.concat_tables(self._tables)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._tables, self._bytes = [], 0


def _csv_lines(table: pa.Table, *, has_header: bool = False) -> bytes:
    """Return a table as lines of CSV."""
    text = io.BytesIO()
    pyarrow.csv.write_csv(table, text, pyarrow.csv.WriteOptions(include_header=has_header))
    return text.getvalue()


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of dates, times or decimals as text, which Python's types would round; any other as it is."""
    if pa.types.is_timestamp(column.type):
        return pc.replace_substring(column.cast(pa.string()), " ", "T")
    if pa.types.is_temporal(column.type) or pa.types.is_decimal(column.type):
        return column.cast(pa.string())
    return column


def _to_json(value: Any) -> str:
    """Return an element of a list that JSON has no type for as text; bytes as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _text(columns: pa.Table | pa.Schema) -> str:
    schema = columns.schema if isinstance(columns, pa.Table) else columns
    return ", ".join(f"{field.name} {field.type}" for field in schema)

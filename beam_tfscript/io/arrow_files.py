"""Files of rows as Arrow record batches: ReadCsv, ReadJsonLines, WriteCsv, WriteJsonLines and WriteParquet.

To read Parquet files as batches, use Beam's own `beam.io.ReadFromParquetBatched`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io import fileio
from apache_beam.io.filesystem import CompressionTypes

from beam_tfscript.data.batch_hints import batch_hint
from beam_tfscript.data.plain_arrow import plain_schema
from beam_tfscript.data.schema import Schema
from beam_tfscript.io.arrow_readers import check_csv, read_batches
from beam_tfscript.io.batch_sinks import ArrowSink, CsvSink, JsonLinesSink, ParquetSink
from beam_tfscript.io.found_files import first_file, in_directory, opened


class ReadBatches(beam.PTransform):
    """Files -> Arrow record batches of the columns of `schema`, which their type hint tells."""

    _format: str

    def __init__(
        self,
        file_pattern: str,
        schema: str | Schema,
        *,
        compression_type: str = CompressionTypes.AUTO,
        validate: bool = True,
    ):
        super().__init__()
        self.schema = Schema.parse(schema) if isinstance(schema, str) else schema
        if validate:
            first_file(file_pattern)
        self._pattern = in_directory(file_pattern)
        self._compression_type = compression_type

    def expand(self, pipeline):
        """Find the files, spread them over the workers, and read each of them."""
        read = beam.ParDo(_ReadFile(self._format, self.schema, self._compression_type))
        return (
            pipeline
            | "Match" >> fileio.MatchFiles(self._pattern)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> read.with_output_types(batch_hint(self.schema))
        )


class ReadCsv(ReadBatches):
    """Read CSV files as Arrow record batches, by Arrow's reader.

    Each file begins with a line of column names. `RunTFScript` takes the columns from here: it needs no `input_schema`.
    An empty field is a null, or an empty text in a `string` column. Values may be in quotes, with line ends in them.

        pipeline | ReadCsv("rows-*.csv.gz", "id string, x double") | RunTFScript("score.py", "id string, score float")

    Args:
      file_pattern: a path, URI or pattern, on any of Beam's file systems.
      schema: columns to read, such as `"id string, x double"`. Other columns of the files are ignored.
      compression_type: one of Beam's `CompressionTypes`; `AUTO` tells it by the file's suffix.
      validate: False if the files need not exist while the pipeline is built.

    Raises:
      ArgumentError: no file matches; while the pipeline is built.
      SchemaError: the schema cannot be parsed, or has arrays, which CSV lacks; or a file lacks a column.
      RowError: a file cannot be read, or a value does not fit its column.
    """

    _format = "csv"

    def __init__(
        self,
        file_pattern: str,
        schema: str | Schema,
        *,
        compression_type: str = CompressionTypes.AUTO,
        validate: bool = True,
    ):
        super().__init__(file_pattern, schema, compression_type=compression_type, validate=validate)
        check_csv(self.schema)


class ReadJsonLines(ReadBatches):
    """Read files with a JSON object per line as Arrow record batches, by Arrow's reader.

    `RunTFScript` takes the columns from here: it needs no `input_schema`. A key that an object lacks is a null. Dates
    and times are texts of ISO 8601.

    Args:
      file_pattern: a path, URI or pattern, on any of Beam's file systems.
      schema: columns to read, such as `"id string, x array<float>"`. Other keys of the objects are ignored.
      compression_type: one of Beam's `CompressionTypes`; `AUTO` tells it by the file's suffix.
      validate: False if the files need not exist while the pipeline is built.

    Raises:
      ArgumentError: no file matches; while the pipeline is built.
      SchemaError: the schema cannot be parsed.
      RowError: a file cannot be read, or a value does not fit its column.
    """

    _format = "jsonl"


class _ReadFile(beam.DoFn):
    """A matched file -> its rows as Arrow batches."""

    def __init__(self, file_format: str, schema: Schema, compression_type: str):
        self._format = file_format
        self._schema = schema
        self._compression_type = compression_type

    def process(self, metadata: Any) -> Iterator[pa.RecordBatch]:
        if not metadata.size_in_bytes:
            return
        with opened(metadata.path, self._compression_type) as file:
            yield from read_batches(file, self._format, self._schema)


class _WriteBatches(beam.PTransform):
    """Arrow record batches or tables -> files."""

    _suffix: str

    def __init__(
        self,
        file_path_prefix: str,
        schema: str | Schema | pa.Schema,
        *,
        file_name_suffix: str | None = None,
        num_shards: int = 0,
        shard_name_template: str | None = None,
        compression_type: str = CompressionTypes.AUTO,
        triggering_frequency: int | None = None,
    ):
        super().__init__()
        if isinstance(schema, str):
            schema = Schema.parse(schema)
        self._sink = self._make_sink(
            file_path_prefix,
            self._suffix if file_name_suffix is None else file_name_suffix,
            plain_schema(schema) if isinstance(schema, Schema) else schema,
            num_shards=num_shards,
            shard_name_template=shard_name_template,
            compression_type=compression_type,
            triggering_frequency=triggering_frequency,
        )

    def _make_sink(self, prefix: str, suffix: str, schema: pa.Schema, **arguments: Any) -> ArrowSink:
        raise NotImplementedError

    def expand(self, batches):
        """Write the batches; return the names of the files."""
        return batches | "Write" >> beam.io.Write(self._sink.for_input(batches.is_bounded))


class WriteCsv(_WriteBatches):
    """Write Arrow record batches or tables to CSV files, by Arrow's writer; each begins with a line of column names.

    Args:
      file_path_prefix: prefix of the files' names; it may be on any of Beam's file systems.
      schema: columns of the files: a schema or its text, or an Arrow schema.
      file_name_suffix: suffix of the files' names; None for `".csv"`. With `".csv.gz"` they are compressed.
      num_shards: number of files; 0 for one per bundle.
      shard_name_template: template of the part between prefix and suffix, as of `beam.io.WriteToText`.
      compression_type: one of Beam's `CompressionTypes`; `AUTO` for that of the suffix.
      triggering_frequency: on unbounded input, seconds after which files are written, in place of the input's windows.

    Raises:
      SchemaError: a column is an array, which CSV lacks.
      OutputError: an element is no Arrow data, or has other columns.
    """

    _suffix = ".csv"

    def _make_sink(self, prefix: str, suffix: str, schema: pa.Schema, **arguments: Any) -> ArrowSink:
        check_csv(Schema.from_arrow(schema))
        return CsvSink(prefix, suffix, schema, **arguments)


class WriteJsonLines(_WriteBatches):
    """Write Arrow record batches or tables to files with a JSON object per line.

    Dates, times and decimals are texts, and bytes are base64. Arrow has no writer of JSON, so each row is converted by
    Python.

    Args:
      file_path_prefix: prefix of the files' names; it may be on any of Beam's file systems.
      schema: columns of the files: a schema or its text, or an Arrow schema.
      file_name_suffix: suffix of the files' names; None for `".jsonl"`. With `".jsonl.gz"` they are compressed.
      num_shards: number of files; 0 for one per bundle.
      shard_name_template: template of the part between prefix and suffix, as of `beam.io.WriteToText`.
      compression_type: one of Beam's `CompressionTypes`; `AUTO` for that of the suffix.
      triggering_frequency: on unbounded input, seconds after which files are written, in place of the input's windows.

    Raises:
      OutputError: an element is no Arrow data, or has other columns.
    """

    _suffix = ".jsonl"

    def _make_sink(self, prefix: str, suffix: str, schema: pa.Schema, **arguments: Any) -> ArrowSink:
        return JsonLinesSink(prefix, suffix, schema, **arguments)


class WriteParquet(_WriteBatches):
    """Write Arrow record batches or tables to Parquet files.

    Unlike `beam.io.WriteToParquetBatched`, it takes record batches, and it gathers them to row groups of about 32 MiB.

    Args:
      file_path_prefix: prefix of the files' names; it may be on any of Beam's file systems.
      schema: columns of the files: a schema or its text, or an Arrow schema.
      file_name_suffix: suffix of the files' names; None for `".parquet"`.
      num_shards: number of files; 0 for one per bundle.
      shard_name_template: template of the part between prefix and suffix, as of `beam.io.WriteToParquet`.
      codec: compression of the columns, such as `"snappy"`, `"zstd"` or `"none"`.
      triggering_frequency: on unbounded input, seconds after which files are written, in place of the input's windows.

    Raises:
      OutputError: an element is no Arrow data, or has other columns.
    """

    _suffix = ".parquet"

    def __init__(
        self,
        file_path_prefix: str,
        schema: str | Schema | pa.Schema,
        *,
        file_name_suffix: str | None = None,
        num_shards: int = 0,
        shard_name_template: str | None = None,
        codec: str = "snappy",
        triggering_frequency: int | None = None,
    ):
        self._codec = codec
        super().__init__(
            file_path_prefix,
            schema,
            file_name_suffix=file_name_suffix,
            num_shards=num_shards,
            shard_name_template=shard_name_template,
            compression_type=CompressionTypes.UNCOMPRESSED,
            triggering_frequency=triggering_frequency,
        )

    def _make_sink(self, prefix: str, suffix: str, schema: pa.Schema, **arguments: Any) -> ArrowSink:
        return ParquetSink(prefix, suffix, schema, self._codec, **arguments)

"""Formats of files: find a file's format, and read its rows as Arrow batches or serialized Examples.

In come a path or URI that Beam's file systems open, and the columns if they are known. Out go record batches, or the
records of a TFRecord file. `check` and `run` read with the same functions, so both see the same rows.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import zlib
from collections.abc import Generator, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.data import tfrecord
from beam_tfscript.data.arrow_types import element_arrow_type
from beam_tfscript.data.column import Column
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError, RowError, SchemaError
from beam_tfscript.files.uris import mask_uri
from beam_tfscript.tables.addresses import is_table

# Format -> suffixes of its files, before a suffix of compression.
SUFFIXES = {
    "tfrecord": (".tfrecord", ".tfrecords", ".tfr"),
    "csv": (".csv",),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}
# The "format" of a table of MaxCompute, whose address takes the place of a file's.
TABLE = "table"
_COMPRESSED = (".gz", ".bz2", ".zst", ".deflate")
# Rows per batch: more would only use more memory, fewer would cost more time per row.
_BATCH_ROWS = 4096
# Size of the first part of a TFRecord file that is read; it doubles until it holds all records that are asked for.
_HEAD_BYTES = 4 << 20


def format_of(pattern: str, given: str | None) -> str:
    """Return the format of files: the given one, else the format of their suffix; `TABLE` for a table's address.

    Raises:
      ArgumentError: the suffix is of no known format, or a format is given for a table.
    """
    if is_table(pattern):
        if given is not None:
            raise ArgumentError(f"{pattern!r} is a table, which has no file format: leave out the format {given}.")
        return TABLE
    if given is not None:
        return given
    name = pattern.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    for found, suffixes in SUFFIXES.items():
        if name.endswith((*suffixes, *(suffix + "*" for suffix in suffixes))):
            return found
    known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    raise ArgumentError(
        f"{_mask(pattern)!r} does not end with a suffix of a known format ({known}): add --input-format, one of "
        f"{', '.join(SUFFIXES)}."
    )


def in_directory(pattern: str) -> str:
    """Return a pattern with a directory: Beam matches no file with a pattern such as `*.csv`, but with `./*.csv`."""
    is_bare = any(sign in pattern for sign in "*?[") and not os.path.dirname(pattern)
    return os.path.join(os.curdir, pattern) if is_bare else pattern


def first_file(pattern: str) -> str:
    """Return the path of the first file that a pattern matches, in alphabetical order.

    Raises:
      ArgumentError: no file matches, or no file system of Beam reads such a URI.
    """
    try:
        found = FileSystems.match([in_directory(pattern)])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        raise ArgumentError(f"Beam cannot look for the file {_mask(pattern)}: {error}") from error
    if not found:
        raise ArgumentError(f"There is no file {_mask(pattern)}: give a path, a URI or a pattern such as 'rows-*.csv'.")
    return min(metadata.path for metadata in found)


def _mask(pattern: str) -> str:
    # In a URI, a question mark may begin a query with keys, which are secret; in a path it belongs to the pattern.
    return mask_uri(pattern) if "://" in pattern else pattern


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Open a file of any of Beam's file systems, decompressed by its suffix; name the file in errors of the block.

    Raises:
      RowError: the file cannot be read, or has another format.
      SchemaError: the file has no such column.
    """
    try:
        with FileSystems.open(path) as file:
            yield file
    except pa.ArrowKeyError as error:
        raise SchemaError(f"{path}: {error.args[0]}") from error
    except (pa.ArrowException, BeamIOError, OSError, EOFError, zlib.error) as error:
        raise RowError(f"{path} cannot be read: {error}") from error


def read_examples(path: str, limit: int) -> list[bytes]:
    """Return the first records of a TFRecord file, at most `limit`.

    Raises:
      RowError: the file is damaged, or not a TFRecord file.
    """
    with opened(path) as file:
        head = b""
        while True:
            more = _read_up_to(file, max(_HEAD_BYTES, len(head)))
            head += more
            try:
                return list(itertools.islice(tfrecord.iter_records(head), limit))
            except ValueError as error:
                if more and "cut short" in str(error):
                    continue  # the head ends in the middle of a record
                raise RowError(f"{path} is damaged, or is not a TFRecord file: {error}") from error


def read_batches(file: IO[bytes], file_format: str, schema: Schema | None) -> Generator[pa.RecordBatch, None, None]:
    """Yield the rows of an open CSV, JSON lines or Parquet file.

    Args:
      file: the open file.
      file_format: `csv`, `jsonl` or `parquet`.
      schema: the columns to read; None for all columns, with types guessed from the first rows.

    Raises:
      ArrowException: the file has another format, or a value does not fit its column; `opened` translates it.
      SchemaError: the format cannot hold one of the columns.
    """
    read = {"csv": _read_csv, "jsonl": _read_json_lines, "parquet": _read_parquet}[file_format]
    yield from read(file, schema)


def _read_parquet(file: IO[bytes], schema: Schema | None) -> Iterator[pa.RecordBatch]:
    parquet = pyarrow.parquet.ParquetFile(file)
    if schema is not None:
        for name in schema.names:
            if name not in parquet.schema_arrow.names:
                raise pa.ArrowKeyError(
                    f"there is no column {name!r}; the columns are {', '.join(parquet.schema_arrow.names)}"
                )
    yield from parquet.iter_batches(columns=None if schema is None else list(schema.names), batch_size=_BATCH_ROWS)


def _read_csv(file: IO[bytes], schema: Schema | None) -> Iterator[pa.RecordBatch]:
    types, names = {}, None
    if schema is not None:
        arrays = [column for column in schema if not column.is_scalar]
        if arrays:
            raise SchemaError(
                f"CSV has no arrays, so no column `{arrays[0]}`: use a JSON lines, Parquet or TFRecord file."
            )
        names = list(schema.names)
        # Timestamps with a time zone and without are of different Arrow types: the reader finds out which it has.
        types = {column.name: element_arrow_type(column) for column in schema if column.kind != "timestamp"}
    reader = pyarrow.csv.open_csv(
        pa.input_stream(_Readable(file)),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, include_columns=names),
    )
    with reader:
        yield from reader


def _read_json_lines(file: IO[bytes], schema: Schema | None) -> Iterator[pa.RecordBatch]:
    known = None
    if schema is not None:
        known = pa.schema([(column.name, _json_type(column)) for column in schema if column.kind != "timestamp"])
    options = pyarrow.json.ParseOptions(explicit_schema=known, unexpected_field_behavior="infer")
    lines = filter(bytes.strip, iter(file.readline, b""))
    while block := list(itertools.islice(lines, _BATCH_ROWS)):
        table = pyarrow.json.read_json(io.BytesIO(b"".join(block)), parse_options=options)
        for column in schema or ():
            table = _from_json(table, column)
        yield from table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def _json_type(column: Column) -> pa.DataType:
    # JSON has dates and times only as text. Of Arrow's list types, its JSON reader knows only the plain one.
    return _in_lists(pa.string() if column.kind in ("date", "time") else element_arrow_type(column), column)


def _in_lists(element: pa.DataType, column: Column) -> pa.DataType:
    for _ in column.shape:
        element = pa.list_(element)
    return element


def _from_json(table: pa.Table, column: Column) -> pa.Table:
    """Return a table with a column that JSON lacks a type for converted from text, or added if no row has it."""
    if column.name not in table.column_names:  # a timestamp that no row has
        return table.append_column(column.name, pa.nulls(table.num_rows))
    if column.kind not in ("date", "time"):
        return table
    wanted = _in_lists(element_arrow_type(column), column)
    index = table.column_names.index(column.name)
    return table.set_column(index, column.name, table.column(index).cast(wanted))


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """Read up to `size` bytes: one read of a compressed file may return fewer before its end."""
    parts: list[bytes] = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class _Readable(io.RawIOBase):
    """Raw stream over a file of Beam's: its compressed files lack methods that Arrow calls."""

    def __init__(self, file: Any):
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

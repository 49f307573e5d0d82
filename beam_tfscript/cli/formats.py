"""Files of rows: which format one is in, and its rows as Arrow batches or serialized Examples.

In come a path or URI that Beam's file systems open, and the columns where they are known. Out go record batches, or the
records of a TFRecord file. `check` and `run` read by the same functions, so that what the one shows the other does.
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

# Format -> how names of its files end, before a suffix of compression.
SUFFIXES = {
    "tfrecord": (".tfrecord", ".tfrecords", ".tfr"),
    "csv": (".csv",),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}
_COMPRESSED = (".gz", ".bz2", ".zst", ".deflate")
# Lines of JSON that become one batch: enough for the vectorised path, little in memory.
_BATCH_LINES = 4096
# How much of a TFRecord file is looked at first; as much again and again where the rows are larger.
_HEAD_BYTES = 4 << 20


def format_of(pattern: str, given: str | None) -> str:
    """The format of files, by their name where it is not given.

    Raises:
      ArgumentError: the name does not tell.
    """
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
        f"The name {_shown(pattern)!r} does not tell the format of the rows, as {known} do: give --input-format, one "
        f"of {', '.join(SUFFIXES)}."
    )


def in_directory(pattern: str) -> str:
    """A pattern as Beam matches it: one without a directory would match nothing, though a name without is found."""
    is_bare = any(sign in pattern for sign in "*?[") and not os.path.dirname(pattern)
    return os.path.join(os.curdir, pattern) if is_bare else pattern


def first_file(pattern: str) -> str:
    """The path of the first file of a pattern.

    Raises:
      ArgumentError: there is none, or nothing reads such a URI.
    """
    try:
        found = FileSystems.match([in_directory(pattern)])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        raise ArgumentError(f"{_shown(pattern)} cannot be looked up: {error}") from error
    if not found:
        raise ArgumentError(
            f"There is no file {_shown(pattern)}: give a path, a URI or a pattern such as 'rows-*.csv'."
        )
    return min(metadata.path for metadata in found)


def _shown(pattern: str) -> str:
    # In a URI, what is behind a question mark may be a key; in a path, it is a part of the pattern.
    return mask_uri(pattern) if "://" in pattern else pattern


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A file of any of Beam's file systems, decompressed as its name says; what fails in the block is told with it.

    Raises:
      RowError: the file cannot be read, or is not in the format that it is read in.
      SchemaError: it has no such column.
    """
    try:
        with FileSystems.open(path) as file:
            yield file
    except pa.ArrowKeyError as error:
        raise SchemaError(f"{path}: {error.args[0]}") from error
    except (pa.ArrowException, BeamIOError, OSError, EOFError, zlib.error) as error:
        raise RowError(f"{path} cannot be read: {error}") from error


def read_examples(path: str, limit: int) -> list[bytes]:
    """The first records of a TFRecord file.

    Raises:
      RowError: the file is damaged, or no TFRecord file.
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
                raise RowError(f"{path} is damaged, or no TFRecord file: {error}") from error


def read_batches(file: IO[bytes], file_format: str, schema: Schema | None) -> Generator[pa.RecordBatch, None, None]:
    """The rows of an open CSV, JSON lines or Parquet file.

    Args:
      file: what to read.
      file_format: `csv`, `jsonl` or `parquet`.
      schema: the columns to read; None for all of them, with types that are guessed from the first rows.

    Raises:
      ArrowException: the file is not in that format, or a value does not fit its column; `opened` translates it.
      SchemaError: the format has no such type.
    """
    read = {"csv": _read_csv, "jsonl": _read_json_lines, "parquet": _read_parquet}[file_format]
    yield from read(file, schema)


def _read_parquet(file: IO[bytes], schema: Schema | None) -> Iterator[pa.RecordBatch]:
    parquet = pyarrow.parquet.ParquetFile(file)
    if schema is not None:
        for name in schema.names:
            if name not in parquet.schema_arrow.names:
                raise pa.ArrowKeyError(f"there is no column {name!r}; it has {', '.join(parquet.schema_arrow.names)}")
    yield from parquet.iter_batches(columns=None if schema is None else list(schema.names), batch_size=_BATCH_LINES)


def _read_csv(file: IO[bytes], schema: Schema | None) -> Iterator[pa.RecordBatch]:
    types, names = {}, None
    if schema is not None:
        arrays = [column for column in schema if not column.is_scalar]
        if arrays:
            raise SchemaError(f"CSV has no arrays, and a column is `{arrays[0]}`: use JSON lines, Parquet or TFRecord.")
        names = list(schema.names)
        # A time with a zone and one without want different types; which it is, the first rows tell.
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
    while block := list(itertools.islice(lines, _BATCH_LINES)):
        table = pyarrow.json.read_json(io.BytesIO(b"".join(block)), parse_options=options)
        for column in schema or ():
            table = _of_json(table, column)
        yield from table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def _json_type(column: Column) -> pa.DataType:
    # What JSON has only as text is read as text; and of lists, Arrow's reader knows but the plain ones.
    element = pa.string() if column.kind in ("date", "time") else element_arrow_type(column)
    for _ in column.shape:
        element = pa.list_(element)
    return element


def _of_json(table: pa.Table, column: Column) -> pa.Table:
    if column.name not in table.column_names:  # a timestamp that no row has
        return table.append_column(column.name, pa.nulls(table.num_rows))
    if column.kind not in ("date", "time"):
        return table
    wanted = element_arrow_type(column)
    for _ in column.shape:
        wanted = pa.list_(wanted)
    place = table.column_names.index(column.name)
    return table.set_column(place, column.name, table.column(place).cast(wanted))


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """As much as there is, up to `size`: one read of a compressed file may give less."""
    parts: list[bytes] = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class _Readable(io.RawIOBase):
    """A file of Beam's, whose compressed ones are no Python files in full, as one that Arrow reads."""

    def __init__(self, file: Any):
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

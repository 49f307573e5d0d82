"""Open CSV, JSON lines and Parquet files to Arrow record batches.

In come an open file and its columns, if they are known. Out go record batches of some thousand rows.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from beam_tfscript.data.arrow_types import element_arrow_type
from beam_tfscript.data.column import Column
from beam_tfscript.data.schema import Schema
from beam_tfscript.data.tfrecord_search import read_up_to
from beam_tfscript.errors import SchemaError
from beam_tfscript.io.found_files import check_complete

# Rows per batch of a Parquet file: more would only use more memory, fewer would cost more time per row.
_BATCH_ROWS = 4096
# Kinds of columns that JSON has as text.
_TEXTS = ("date", "time", "timestamp")
# Bytes per batch of a text file, for the same reasons.
_BLOCK_BYTES = 1 << 20


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


def check_csv(schema: Schema) -> None:
    """Check that CSV can hold all columns of a schema.

    Raises:
      SchemaError: a column is an array.
    """
    arrays = [column for column in schema if not column.is_scalar]
    if arrays:
        raise SchemaError(f"CSV has no arrays, so no column `{arrays[0]}`: use a JSON lines, Parquet or TFRecord file.")


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
        check_csv(schema)
        names = list(schema.names)
        # Texts with a time zone and without are of different Arrow types: `_from_texts` finds out which there are.
        types = {
            column.name: pa.string() if column.kind == "timestamp" else element_arrow_type(column) for column in schema
        }
    options = pyarrow.csv.ConvertOptions(column_types=types, include_columns=names)
    reader = pyarrow.csv.open_csv(
        pa.input_stream(_Readable(file)),
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=options,
    )
    with reader:
        for batch in reader:
            for index, column in enumerate(schema or ()):
                if column.kind == "timestamp":
                    texts = batch.column(index)
                    # The texts that Arrow takes for a null in columns of other types.
                    is_null = pc.is_in(texts, pa.array(options.null_values))
                    texts = pc.if_else(is_null, pa.scalar(None, pa.string()), texts)
                    batch = batch.set_column(index, column.name, _from_texts(texts, column))
            yield batch
    check_complete(file)


def _read_json_lines(file: IO[bytes], schema: Schema | None) -> Iterator[pa.RecordBatch]:
    known = None
    if schema is not None:
        known = pa.schema([(column.name, _json_type(column)) for column in schema])
    options = pyarrow.json.ParseOptions(explicit_schema=known, unexpected_field_behavior="infer")
    for block in _blocks_of_lines(file):
        # As one block: a line that is cut by the end of Arrow's block would be an error.
        whole = pyarrow.json.ReadOptions(block_size=len(block) + 1)
        table = pyarrow.json.read_json(io.BytesIO(block), read_options=whole, parse_options=options)
        for column in schema or ():
            if column.kind in _TEXTS:
                index = table.column_names.index(column.name)
                table = table.set_column(index, column.name, _from_texts(table.column(index), column))
        yield from table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def _blocks_of_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file in blocks of whole lines, without blocks of blank lines."""
    rest = b""
    while more := read_up_to(file, _BLOCK_BYTES):
        end = more.rfind(b"\n") + 1
        if not end:  # the middle of a long line
            rest += more
            continue
        block, rest = rest + more[:end], more[end:]
        if block.strip():
            yield block
    check_complete(file)
    if rest.strip():
        yield rest


def _json_type(column: Column) -> pa.DataType:
    # JSON has dates and times only as text. Of Arrow's list types, its JSON reader knows only the plain one.
    return _in_lists(pa.string() if column.kind in _TEXTS else element_arrow_type(column), column)


def _in_lists(element: pa.DataType, column: Column) -> pa.DataType:
    for _ in column.shape:
        element = pa.list_(element)
    return element


def _from_texts(texts: Any, column: Column) -> pa.Array:
    """Return an array of dates, times or timestamps, or of lists of them, for an array of texts."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if pa.types.is_list(texts.type):
        return pa.ListArray.from_arrays(texts.offsets, _from_texts(texts.values, column), mask=texts.is_null())
    wanted = element_arrow_type(column)
    if column.kind == "time":
        # Arrow converts a text to a time of day only as part of a timestamp.
        dated = pc.binary_join_element_wise("1970-01-01T", texts, "")
        return dated.cast(pa.timestamp(column.unit)).cast(wanted)
    try:
        return texts.cast(wanted)
    except pa.ArrowInvalid as error:
        if column.kind != "timestamp":
            raise
        try:
            # Texts without a time zone are in UTC.
            return texts.cast(pa.timestamp(column.unit))
        except pa.ArrowInvalid:
            raise error from None


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

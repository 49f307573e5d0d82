"""Formats of files: find a file's format, and read the first records of a TFRecord file.

`check` and `run` read files with the same functions, those of the room `io`, so both see the same rows.
"""

from __future__ import annotations

import itertools

from beam_tfscript.data.tfrecord_blocks import FrameError, iter_blocks
from beam_tfscript.errors import ArgumentError, RowError
from beam_tfscript.io.found_files import mask_pattern, opened
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
        f"{mask_pattern(pattern)!r} does not end with a suffix of a known format ({known}): add --input-format, one of "
        f"{', '.join(SUFFIXES)}."
    )


def read_examples(path: str, limit: int) -> list[bytes]:
    """Return the first records of a TFRecord file, at most `limit`.

    Raises:
      RowError: the file is damaged, or not a TFRecord file.
    """
    with opened(path) as file:
        try:
            records = itertools.chain.from_iterable(block.records for block in iter_blocks(file))
            return list(itertools.islice(records, limit))
        except FrameError as error:
            raise RowError(f"{path} is damaged, or is not a TFRecord file: {error}") from error

"""Files of Beam's file systems: found by a pattern, opened, with errors that name them."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.errors import ArgumentError, RowError, SchemaError
from beam_tfscript.files.uris import mask_uri


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
        raise ArgumentError(f"Beam cannot look for the file {mask_pattern(pattern)}: {error}") from error
    if not found:
        raise ArgumentError(
            f"There is no file {mask_pattern(pattern)}: give a path, a URI or a pattern such as 'rows-*.csv'."
        )
    return min(metadata.path for metadata in found)


def mask_pattern(pattern: str) -> str:
    """Return a pattern as messages show it, without secrets."""
    # In a URI, a question mark may begin a query with keys, which are secret; in a path it belongs to the pattern.
    return mask_uri(pattern) if "://" in pattern else pattern


@contextlib.contextmanager
def opened(path: str, compression_type: str = CompressionTypes.AUTO) -> Iterator[IO[bytes]]:
    """Open a file of any of Beam's file systems, decompressed; name the file in errors of the block.

    Args:
      path: the file's path or URI.
      compression_type: one of Beam's `CompressionTypes`; `AUTO` for that of the file's suffix.

    Raises:
      RowError: the file cannot be read, or has another format.
      SchemaError: the file has no such column.
    """
    try:
        with FileSystems.open(path, compression_type=compression_type) as file:
            yield file
    except pa.ArrowKeyError as error:
        raise SchemaError(f"{path}: {error.args[0]}") from error
    except (pa.ArrowException, BeamIOError, OSError, EOFError, zlib.error) as error:
        raise RowError(f"{path} cannot be read: {error}") from error


def check_complete(file: IO[bytes]) -> None:
    """Check that the compressed data of a file that was read to its end is complete; Beam itself does not.

    Raises:
      EOFError: the data is cut short. `opened` translates the error.
    """
    decompressor = getattr(file, "_decompressor", None)
    if not getattr(decompressor, "eof", True):
        raise EOFError("its compressed data is cut short")

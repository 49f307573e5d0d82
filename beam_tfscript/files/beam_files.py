"""Files on Beam's file systems: their paths, uploads and downloads without compression, and removal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import IO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files import oss_file_system as oss_file_system  # Beam finds the file systems that are loaded
from beam_tfscript.files.uris import mask_uri

__all__ = [
    "check_file_system", "create", "delete", "download", "find", "join", "make_directory", "remove_tree", "upload",
    "upload_tree",
]  # fmt: skip

_COPY_BYTES = 4 << 20


def check_file_system(argument: str, uri: str) -> None:
    """Check that Beam has a file system for a URI.

    Args:
      argument: the transform's argument, for the error.
      uri: the argument's value.

    Raises:
      ArgumentError: Beam has no file system for the URI.
    """
    try:
        FileSystems.get_filesystem(uri)
    except ArgumentError:  # a package is missing, and the error names it
        raise
    except ValueError as error:
        raise ArgumentError(
            f"{argument}: no file system is known for {mask_uri(uri)!r}. Give a local path, or a scheme that Apache "
            "Beam or this package has a file system for, such as oss://; gs:// and s3:// need their extra, as in "
            "apache-beam[gcp] or [aws]."
        ) from error


def join(directory: str, name: str) -> str:
    """Return the path of a file.

    Args:
      directory: path on one of Beam's file systems.
      name: the file's local path, relative to the directory.
    """
    return FileSystems.join(directory, *name.split(os.sep))


def make_directory(path: str) -> None:
    """Make a directory and its parents, if they do not exist."""
    try:
        FileSystems.mkdirs(path)
    except OSError:
        if not FileSystems.exists(path):
            raise


def create(path: str) -> IO[bytes]:
    """Return a new file, open for writing."""
    # By default, Beam would compress a file such as vocab.gz again, because of its suffix.
    return FileSystems.create(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED)


def upload(local: str, path: str) -> None:
    """Copy a local file to one of Beam's file systems."""
    with open(local, "rb") as source, create(path) as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)


def upload_tree(directory: str, target: str) -> None:
    """Copy all files below a local directory; make no directory without files."""
    for folder, _, names in sorted(os.walk(directory)):
        copy = target if folder == directory else join(target, os.path.relpath(folder, directory))
        if names and FileSystems.get_filesystem(copy).has_dirs():
            make_directory(copy)
        for name in sorted(names):
            upload(os.path.join(folder, name), FileSystems.join(copy, name))


def download(path: str, local: str) -> int:
    """Copy a file of one of Beam's file systems to a local file; return the number of bytes."""
    # By default, Beam would decompress a file such as vocab.gz, because of its suffix.
    with (
        FileSystems.open(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED) as source,
        open(local, "wb") as target,
    ):
        shutil.copyfileobj(source, target, _COPY_BYTES)
        return target.tell()


def find(pattern: str) -> list[FileMetadata]:
    """Return the files that match a pattern: `*` stands for a name or a part of it, `**` for any path."""
    return list(FileSystems.match([pattern])[0].metadata_list)


def delete(paths: Sequence[str]) -> None:
    """Delete files; a file that does not exist is no error.

    Raises:
      OSError: a file is still there.
    """
    try:
        FileSystems.delete(list(paths))
    except BeamIOError as error:
        left = [path for path in paths if FileSystems.exists(path)]
        if left:
            raise OSError(f"{len(left)} of {len(paths)} files cannot be deleted: {error}") from error


def remove_tree(directory: str) -> None:
    """Remove a directory with all files below it, if it exists; on object stores, all objects with its prefix."""
    if FileSystems.get_filesystem(directory).has_dirs():
        found = [directory] if FileSystems.exists(directory) else []
    else:
        found = [metadata.path for metadata in find(FileSystems.join(directory, "**"))]
    if found:
        delete(found)

"""Files on Beam's file systems: their paths, and uploads without compression."""

from __future__ import annotations

import os
import shutil
from typing import IO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.uris import mask_uri

__all__ = ["check_file_system", "create", "join", "make_directory", "upload", "upload_tree"]

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
    except ValueError as error:
        raise ArgumentError(
            f"{argument}: no file system is known for {mask_uri(uri)!r}. Give a local path, or a scheme that Apache "
            "Beam has a file system for; gs:// and s3:// need their extra, as in apache-beam[gcp] or [aws]."
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

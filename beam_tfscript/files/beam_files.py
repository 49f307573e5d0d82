"""Files on file systems that Beam knows by a URI: where they are, and how they get there as they are."""

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
    """Refuse a URI that Beam has no file system for.

    Raises:
      ArgumentError: there is none; the message names the argument.
    """
    try:
        FileSystems.get_filesystem(uri)
    except ValueError as error:
        raise ArgumentError(
            f"{argument}: no file system is known for {mask_uri(uri)!r}. Give a local path, or a scheme that Apache "
            "Beam has a file system for; gs:// and s3:// need their extra, as in apache-beam[gcp] or [aws]."
        ) from error


def join(directory: str, name: str) -> str:
    """Return where a file is whose name is relative to a directory, as a local name is."""
    return FileSystems.join(directory, *name.split(os.sep))


def make_directory(path: str) -> None:
    """Make a directory with those above it; one that is there is as good."""
    try:
        FileSystems.mkdirs(path)
    except OSError:
        if not FileSystems.exists(path):
            raise


def create(path: str) -> IO[bytes]:
    """Return a new file to write to."""
    # By its ending, a file such as vocab.gz would be compressed once more.
    return FileSystems.create(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED)


def upload(local: str, path: str) -> None:
    """Copy a file of this machine."""
    with open(local, "rb") as source, create(path) as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)


def upload_tree(directory: str, target: str) -> None:
    """Copy all files below a local directory; where there are no files, make nothing."""
    for folder, _, names in sorted(os.walk(directory)):
        place = target if folder == directory else join(target, os.path.relpath(folder, directory))
        if names and FileSystems.get_filesystem(place).has_dirs():
            make_directory(place)
        for name in sorted(names):
            upload(os.path.join(folder, name), FileSystems.join(place, name))

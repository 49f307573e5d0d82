"""A directory of small files that several machines see, on any of Beam's file systems."""

from __future__ import annotations

import contextlib
import os
import time

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.files import beam_files
from beam_tfscript.files.uris import local_path

__all__ = ["SharedDirectory", "cluster_directory", "remove_old"]

_PREFIX = "beam_tfscript_cluster-"


class SharedDirectory:
    """Files of one directory, by name. Errors are those of the file system's own library.

    Args:
      path: of the directory, which is made with its first file.

    Attributes:
      path: of the directory.
    """

    def __init__(self, path: str):
        self.path = path

    def names(self) -> list[str]:
        """Return the names of all files; none if the directory does not exist."""
        found = beam_files.find(FileSystems.join(self.path, "*"))
        return [metadata.path.rstrip("/").rpartition("/")[2] for metadata in found]

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, in place of one of that name. A reader may see a part of it on some file systems."""
        with beam_files.create(FileSystems.join(self.path, name)) as file:
            file.write(content)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        path = FileSystems.join(self.path, name)
        with FileSystems.open(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED) as file:
            return file.read()

    def delete(self, name: str) -> None:
        """Delete a file; one that does not exist is no error."""
        beam_files.delete([FileSystems.join(self.path, name)])

    def remove(self) -> None:
        """Remove the directory with all files in it."""
        beam_files.remove_tree(self.path)


def cluster_directory(parent: str, key: str, name: str) -> str:
    """Return the path of a directory that belongs to one application of a transform.

    Args:
      parent: directory that all machines see.
      key: of the application; an empty text for the start of the paths of all applications.
      name: of the directory; an empty text for the start of the paths of all directories of the application.
    """
    return beam_files.join(parent, f"{_PREFIX}{key}{'-' if key else ''}{name}")


def remove_old(prefix: str, *, age_s: float) -> None:
    """Remove directories whose files have not changed for long, as those of killed jobs; leave what cannot be removed.

    Args:
      prefix: start of their paths, as of `cluster_directory`.
      age_s: in seconds, by the clocks of this machine and of the file system; minus infinity for all directories.
    """
    with contextlib.suppress(Exception):  # each file system raises the errors of its own library
        for path, updated in _newest_changes(prefix).items():
            if updated < time.time() - age_s:
                beam_files.remove_tree(path)


def _newest_changes(prefix: str) -> dict[str, float]:
    """Return the directories whose paths begin with a prefix, each with the time of its newest change."""
    local = local_path(prefix)
    if local is not None:
        # Beam would list all files below the parent, which may be the directory of temporary files.
        with os.scandir(os.path.dirname(local)) as entries:
            start = os.path.basename(local)
            return {entry.path: entry.stat().st_mtime for entry in entries if entry.name.startswith(start)}
    newest: dict[str, float] = {}
    for found in beam_files.find(f"{prefix}*/*"):
        path = found.path.rpartition("/")[0]
        newest[path] = max(newest.get(path, 0.0), found.last_updated_in_seconds)
    return newest

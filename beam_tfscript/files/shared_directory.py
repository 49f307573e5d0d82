"""A directory of small files that several machines see, on any of Beam's file systems."""

from __future__ import annotations

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.files import beam_files

__all__ = ["SharedDirectory", "cluster_directory"]

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

"""A file system of Beam in memory, with directories (`memdirs://`) or as object stores are (`memkeys://`).

It can be made to die at its n-th change, as a process does: that change and all later calls fail until it is revived.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem


class Died(BaseException):
    """The process that used the file system was killed."""


class Memory:
    """Stored files, and the number of changes after which their user dies."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self.changes_left: int | None = None
        self.observe: Callable[[dict[str, bytes]], None] = lambda files: None

    def change(self, apply: Callable[[], object]) -> None:
        with self.lock:
            if self.changes_left is not None:
                if self.changes_left == 0:
                    raise Died()
                self.changes_left -= 1
            apply()
            self.observe(self.files)


MEMORY = Memory()


class _Writing(io.BytesIO):
    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def close(self) -> None:
        # As in object stores: there when it is closed.
        if not self.closed:
            content = self.getvalue()
            MEMORY.change(lambda: MEMORY.files.__setitem__(self._path, content))
        super().close()


class KeysFileSystem(FileSystem):
    """An object store: there is no directory, only names with slashes in them."""

    @classmethod
    def scheme(cls):
        return "memkeys"

    def has_dirs(self):
        return False

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return path.rpartition("/")[::2]

    def mkdirs(self, path):
        pass

    def _list(self, dir_or_prefix):
        with MEMORY.lock:
            return [
                FileMetadata(path, len(data)) for path, data in MEMORY.files.items() if path.startswith(dir_or_prefix)
            ]

    def create(self, path, mime_type=None, compression_type=None):
        return _Writing(path)

    def open(self, path, mime_type=None, compression_type=None):
        with MEMORY.lock:
            return io.BytesIO(MEMORY.files[path])

    def copy(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names):
            MEMORY.change(lambda source=source, target=target: MEMORY.files.update({target: MEMORY.files[source]}))

    def rename(self, source_file_names, destination_file_names):
        raise AssertionError("an object store renames nothing in one step")

    def exists(self, path):
        with MEMORY.lock:
            return path in MEMORY.files

    def size(self, path):
        return len(MEMORY.files[path])

    def last_updated(self, path):
        return 0.0

    def checksum(self, path):
        return str(self.size(path))

    def metadata(self, path):
        return FileMetadata(path, self.size(path))

    def delete(self, paths):
        for path in paths:
            MEMORY.change(lambda path=path: MEMORY.files.pop(path))


class DirectoriesFileSystem(KeysFileSystem):
    """A file system like HDFS: lists one level, renames a directory in one step, moves into one that is there."""

    @classmethod
    def scheme(cls):
        return "memdirs"

    def has_dirs(self):
        return True

    def _list(self, dir_or_prefix):
        with MEMORY.lock:
            start = dir_or_prefix.rstrip("/") + "/"
            names = {path[len(start) :].partition("/")[0] for path in MEMORY.files if path.startswith(start)}
        return [FileMetadata(start + name, 0) for name in names]

    def exists(self, path):
        with MEMORY.lock:
            return any(name == path or name.startswith(path + "/") for name in MEMORY.files)

    def metadata(self, path):
        return FileMetadata(path, len(MEMORY.files.get(path, b"")))

    def copy(self, source_file_names, destination_file_names):
        raise AssertionError("a directory is there in one step only if it is renamed")

    def rename(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names):
            if self.exists(target):
                target = self.join(target, source.rpartition("/")[2])
            MEMORY.change(lambda source=source, target=target: self._move(source + "/", target + "/"))

    def _move(self, source, target):
        moved = [path for path in MEMORY.files if path.startswith(source)]
        if not moved:
            raise BeamIOError(f"{source} is not there")
        for path in moved:
            MEMORY.files[target + path[len(source) :]] = MEMORY.files.pop(path)

    def delete(self, paths):
        for path in paths:
            MEMORY.change(lambda path=path: self._delete(path))

    def _delete(self, path):
        for name in [name for name in MEMORY.files if name == path or name.startswith(path + "/")]:
            del MEMORY.files[name]

"""Rows in a spool directory: TFRecord files on any of Beam's file systems, written before a shuffle and read behind it.

A job's files are in a directory of its own, `<spool_dir>/beam_tfscript_rows-<key>`. They are removed when all runs are
done, or when the submitting process sees the job's end. What a killed job leaves is removed by a later job with the
same spool directory, `ABANDONED_S` after the last sign of life.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import logging
import os
import stat
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import IO, TypeVar

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files import beam_files
from beam_tfscript.files.old_directories import remove_old
from beam_tfscript.files.uris import local_path, mask_uri

__all__ = ["SpoolWriter", "SpooledFile", "fetch_files", "job_directory", "remove_abandoned", "show_life", "write_fully"]

_LOGGER = logging.getLogger(__name__)

# Large enough that files are few, and small enough that several are read at a time, and that a failed upload is cheap.
FILE_TARGET_BYTES = 64 << 20
# Age at which a job's directory is removed as that of a killed job. A run may last for days, and shows life when it
# begins.
ABANDONED_S = 7 * 24 * 3600
_PREFIX = "beam_tfscript_rows-"
_LIFE = "alive"
# Errors of a store that answers no more in this time are raised.
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.5
_DOWNLOADS = 4
# Beam's BeamIOError is an OSError.
_ERRORS = (OSError, ValueError, RuntimeError)

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class SpooledFile:
    """Reference to a file of rows; what a shuffle moves in place of the rows.

    Attributes:
      path: the file, on one of Beam's file systems.
      size: its number of bytes.
      checksum: checksum of its rows; empty if none was asked for.
    """

    path: str
    size: int
    checksum: str

    def encode(self) -> str:
        """Return the reference as JSON."""
        return json.dumps(dataclasses.astuple(self))

    @classmethod
    def decode(cls, text: str) -> SpooledFile:
        """Return the reference of a JSON text that `encode` has made."""
        return cls(*json.loads(text))


@dataclasses.dataclass
class _OpenFile:
    name: str
    count: int = 0
    size: int = 0


class SpoolWriter:
    """Writes the rows of one bundle, in files by window and shard.

    A file is gathered on the local disk, in the spool directory itself if that is local. It is published when it is
    large enough, or when the bundle ends. So an object store gets whole objects, and memory stays flat.

    Args:
      directory: of the job; the return value of `job_directory`.
      gather_dir: local directory for files on their way to another file system.
    """

    def __init__(self, directory: str, gather_dir: str):
        self._directory = directory
        self._is_local = local_path(directory) is not None
        self._gather_dir = directory if self._is_local else gather_dir
        self._open: dict[Hashable, _OpenFile] = {}
        self._published: list[str] = []

    def add(self, key: Hashable, count: int, payload: bytes) -> tuple[int, SpooledFile] | None:
        """Append a block of TFRecords to the file of a key.

        Args:
          key: the window and the shard, or whatever else the rows have in common.
          count: number of rows in the block.
          payload: the block.

        Returns:
          (rows, reference) of the file if it is complete; None if it goes on.

        Raises:
          ScriptEnvironmentError: the file cannot be written.
        """
        file = self._open.get(key)
        if file is None:
            file = self._open[key] = _OpenFile(f"{uuid.uuid4().hex}.tfrecord")
        with _described("written to", self._directory):
            if self._is_local and not file.size:
                _make_local(self._directory)
            # Opened for each block: with many windows there may be more files than descriptors.
            with open(self._gathered(file), "ab", buffering=0) as target:
                write_fully(target, payload)
        file.count += count
        file.size += len(payload)
        return self._publish(key) if file.size >= FILE_TARGET_BYTES else None

    def finish(self) -> Iterator[tuple[Hashable, int, SpooledFile]]:
        """Yield (key, rows, reference) of each remaining file."""
        for key in list(self._open):
            yield key, *self._publish(key)
        self._published.clear()

    def abandon(self) -> None:
        """Remove the files of a bundle that has failed, as far as that is possible."""
        for file in self._open.values():
            _try(os.remove, self._gathered(file))
        if self._published:
            _try(beam_files.delete, self._published)
        self._open.clear()
        self._published.clear()

    def _gathered(self, file: _OpenFile) -> str:
        return os.path.join(self._gather_dir, f"{file.name}.part")

    def _publish(self, key: Hashable) -> tuple[int, SpooledFile]:
        file = self._open[key]
        gathered, path = self._gathered(file), beam_files.join(self._directory, file.name)
        with _described("written to", self._directory):
            if self._is_local:
                os.chmod(gathered, os.stat(gathered).st_mode & 0o444)  # scripts are given its path
                os.rename(gathered, path)
            else:
                _repeat(lambda: self._upload(gathered, path, file.size), "an upload of rows")
                os.remove(gathered)
        self._published.append(path)
        del self._open[key]
        return file.count, SpooledFile(path, file.size, "")

    def _upload(self, gathered: str, path: str, size: int) -> None:
        beam_files.make_directory(self._directory)
        beam_files.upload(gathered, path)
        # Not every file system raises where an upload was cut off.
        (found,) = beam_files.find(path) or (None,)
        if found is None or found.size_in_bytes != size:
            raise OSError(f"{size} bytes were written, and {found and found.size_in_bytes} are there")


def _make_local(directory: str) -> None:
    """Make a local directory, which those may use who may use its parent; below /tmp, only its owner.

    The users of workers on several machines may differ.
    """
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    mode = stat.S_IMODE(os.stat(parent).st_mode)
    try:
        os.mkdir(directory)
    except FileExistsError:
        return
    # A directory with the sticky bit is one that strangers share.
    os.chmod(directory, 0o700 if mode & stat.S_ISVTX else mode & 0o777)


def write_fully(file: IO[bytes], payload: bytes) -> None:
    """Write all bytes to a file without a buffer, which may take a part of them at a time."""
    view = memoryview(payload)
    while view:
        view = view[file.write(view) :]


def job_directory(spool_dir: str, key: str) -> str:
    """Return the directory of one application of a transform."""
    return beam_files.join(spool_dir, f"{_PREFIX}{key}")


def fetch_files(files: Sequence[SpooledFile], directory: str) -> list[str]:
    """Return a local path of each file: its own, or that of a copy.

    Args:
      files: references.
      directory: local directory of the copies.

    Raises:
      ScriptEnvironmentError: a file is gone, is damaged, or cannot be read.
    """

    def fetch(index: int) -> str:
        file = files[index]
        path = local_path(file.path)
        if path is None:
            path = os.path.join(directory, os.path.basename(file.path))
            _repeat(lambda: _download(file, path), "a download of rows")
        elif os.path.getsize(path) != file.size:
            raise OSError(f"{os.path.getsize(path)} bytes are there, of {file.size} that were written")
        return path

    with _described("read from", os.path.dirname(files[0].path) if files else ""):
        if not files or local_path(files[0].path) is not None:
            return [fetch(index) for index in range(len(files))]
        with concurrent.futures.ThreadPoolExecutor(_DOWNLOADS) as executor:
            return list(executor.map(fetch, range(len(files))))


def _download(file: SpooledFile, path: str) -> None:
    size = beam_files.download(file.path, path)
    if size != file.size:
        raise OSError(f"{size} bytes have come, of {file.size} that were written")


def show_life(directory: str) -> None:
    """Show that a job's directory is in use, for jobs that look for abandoned ones."""
    try:
        with beam_files.create(beam_files.join(directory, _LIFE)) as file:
            file.write(b"This directory is in use.\n")
    except _ERRORS as error:
        _LOGGER.warning("the spool directory cannot be marked as used: %s", error)


def remove_abandoned(spool_dir: str) -> None:
    """Remove directories of jobs that were killed long ago."""
    remove_old(beam_files.join(spool_dir, _PREFIX), age_s=ABANDONED_S)


class _described:
    """Context that turns errors of a file system into an error that says what to do."""

    def __init__(self, action: str, directory: str):
        self._action = action
        self._directory = directory

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _ERRORS):
            raise ScriptEnvironmentError(
                f"rows cannot be {self._action} {mask_uri(self._directory)}: {type(error).__name__}: {error}. Every "
                "worker must see spool_dir, and be allowed to write there; the disk must have room for all rows."
            ) from error


def _repeat(action: Callable[[], _Result], name: str) -> _Result:
    """Call a function until it succeeds, a few times."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return action()
        except _ERRORS as error:
            _LOGGER.warning("%s failed, and is tried again: %s", name, error)
            time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
    return action()


def _try(action: Callable[..., object], *arguments: object) -> None:
    try:
        action(*arguments)
    except _ERRORS as error:
        _LOGGER.warning("rows of a failed bundle cannot be removed: %s", error)

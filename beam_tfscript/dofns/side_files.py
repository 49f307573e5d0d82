"""Side inputs of a script, on the worker: chunks to files, which the runs of a harness share."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.feeds.spool import write_dataset
from beam_tfscript.options.script_options import ScriptOptions

# Files that no run has are kept for the next run, of so many windows of a transform.
_KEPT_UNUSED = 2

_lock = threading.Lock()
_files: dict[tuple[str, str, Any], _Files] = {}


@dataclasses.dataclass
class _Files:
    """The side inputs of one window, as they were when they were written.

    Attributes:
      directory: where they are.
      digest: of what is in them.
      users: runs that have them.
    """

    directory: str
    digest: int
    users: int = 0


@contextlib.contextmanager
def side_input_files(
    options: ScriptOptions, scratch: str, window: tuple[float, float] | None, sides: Iterable[Any] | None
) -> Iterator[dict[str, Any]]:
    """Write the side inputs of a window to files, if they are not there as they are now; keep them during the block.

    A side input that fires again is another one: each run has what there is when it begins.

    Args:
      options: the transform's arguments.
      scratch: the harness's directory.
      window: whose side inputs they are.
      sides: (name, (count, TFRecord bytes)) each; may be iterated twice.

    Yields:
      name -> its `path` and its `schema`, as the script's config needs them.

    Raises:
      ScriptEnvironmentError: the disk is full.
    """
    if not options.side_schemas:
        yield {}
        return
    identity = (scratch, options.key, window)
    files = _take(identity, list(options.side_schemas), sides or ())
    try:
        yield {
            name: {
                "path": os.path.join(files.directory, f"{name}.tfrecord"),
                "schema": None if schema is None else schema.to_wire(),
            }
            for name, schema in options.side_schemas.items()
        }
    finally:
        _give_back(identity, files)


def _take(identity: tuple[str, str, Any], names: list[str], sides: Iterable[Any]) -> _Files:
    with _lock:
        if identity not in _files:
            return _replace(identity, names, sides)
    # Outside the lock, as it takes a second per gigabyte; and only where there is something to compare with.
    digest = _digest(sides)
    with _lock:
        found = _files.get(identity)
        if found is None or found.digest != digest or not os.path.isdir(found.directory):
            return _replace(identity, names, sides)
        _files[identity] = _files.pop(identity)  # the last one that was used
        found.users += 1
        return found


def _replace(identity: tuple[str, str, Any], names: list[str], sides: Iterable[Any]) -> _Files:
    """Write files in the place of those that are there, and take them; called with the lock held."""
    files, replaced = _write(identity[0], names, sides), _files.get(identity)
    files.users += 1
    _files[identity] = files
    if replaced is not None and not replaced.users:
        shutil.rmtree(replaced.directory, ignore_errors=True)
    return files


def _give_back(identity: tuple[str, str, Any], files: _Files) -> None:
    with _lock:
        files.users -= 1
        if not files.users and _files.get(identity) is not files:
            shutil.rmtree(files.directory, ignore_errors=True)
        unused = [other for other in _files if other[:2] == identity[:2] and not _files[other].users]
        for other in unused[:-_KEPT_UNUSED]:
            shutil.rmtree(_files.pop(other).directory, ignore_errors=True)
        for other in [other for other in _files if not os.path.isdir(other[0])]:
            del _files[other]  # of a scratch directory that is gone


def _write(scratch: str, names: Iterable[str], sides: Iterable[Any]) -> _Files:
    try:
        directory = tempfile.mkdtemp(prefix="side-inputs-", dir=scratch)
    except OSError as error:
        raise ScriptEnvironmentError(f"the directory of the side inputs cannot be made: {error}") from error
    digest = 0
    try:
        for name in names:
            write_dataset(os.path.join(directory, f"{name}.tfrecord"), ())
        for name, chunk in sides:
            write_dataset(os.path.join(directory, f"{name}.tfrecord"), [chunk])
            digest += _digest_of(name, chunk)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return _Files(directory, digest)


def _digest(sides: Iterable[Any]) -> int:
    return sum(_digest_of(name, chunk) for name, chunk in sides)


def _digest_of(name: str, chunk: tuple[int, bytes]) -> int:
    # Summed up: chunks come in any order.
    return int.from_bytes(hashlib.blake2b(chunk[1], digest_size=16, person=_person(name)).digest(), "little")


def _person(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()

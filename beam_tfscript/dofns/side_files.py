"""Files of side inputs on the worker: chunks in; one file per side input out, shared by the runs of a harness."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.feeds.spool import write_dataset
from beam_tfscript.options.script_options import ScriptOptions

# Number of windows per transform whose files are kept for a next run while no run uses them. Each costs disk space;
# without any, each run would write its files again.
_KEPT_UNUSED = 2

# (the harness's scratch directory, the transform's key, the window's bounds).
_Key: TypeAlias = "tuple[str, str, tuple[float, float] | None]"

_lock = threading.Lock()
_files: dict[_Key, _Files] = {}


@dataclasses.dataclass
class _Files:
    """Files of the side inputs of one window, at one firing of their triggers.

    Attributes:
      directory: path of the directory of the files.
      digest: digest of all chunks, whatever their order.
      users: number of runs that use the files.
    """

    directory: str
    digest: int
    users: int = 0


@contextlib.contextmanager
def side_input_files(
    options: ScriptOptions,
    scratch: str,
    window: tuple[float, float] | None,
    chunks: Iterable[tuple[str, tuple[int, bytes]]] | None,
) -> Iterator[dict[str, Any]]:
    """Write the side inputs of a window to files, unless such files exist; keep the files during the block.

    A side input may fire again with other rows. Each run has the rows that there are when it begins.

    Args:
      options: the transform's arguments.
      scratch: the harness's scratch directory.
      window: (start, end) of the window in seconds; None for the global window.
      chunks: (name of the side input, (number of rows, TFRecord bytes)) each; iterated twice. None for no chunks.

    Yields:
      name of the side input -> the `path` of its file and its `schema`, for the script's config.

    Raises:
      ScriptEnvironmentError: the files cannot be written, such as on a full disk.
    """
    if not options.side_schemas:
        yield {}
        return
    key = (scratch, options.key, window)
    files = _acquire(key, list(options.side_schemas), chunks or ())
    try:
        yield {
            name: {
                "path": os.path.join(files.directory, f"{name}.tfrecord"),
                "schema": None if schema is None else schema.to_wire(),
            }
            for name, schema in options.side_schemas.items()
        }
    finally:
        _release(key, files)


def _acquire(key: _Key, names: list[str], chunks: Iterable[Any]) -> _Files:
    """Return files with these chunks for one more user: the files that exist, if they hold the same."""
    with _lock:
        if key not in _files:
            return _replace(key, names, chunks)
    # Without the lock, since a digest takes a second per gigabyte.
    digest = sum(_digest(name, chunk) for name, chunk in chunks)
    with _lock:
        found = _files.get(key)
        if found is None or found.digest != digest or not os.path.isdir(found.directory):
            return _replace(key, names, chunks)
        _files[key] = _files.pop(key)  # moved to the end: the most recently used
        found.users += 1
        return found


def _replace(key: _Key, names: list[str], chunks: Iterable[Any]) -> _Files:
    """Write new files, and return them for their first user; call with the lock held.

    Files of the same key stay until their last user is gone.
    """
    scratch, _, _ = key
    files, replaced = _write(scratch, names, chunks), _files.get(key)
    files.users += 1
    _files[key] = files
    if replaced is not None and not replaced.users:
        shutil.rmtree(replaced.directory, ignore_errors=True)
    return files


def _release(key: _Key, files: _Files) -> None:
    """Take note that a user is gone; remove files that are replaced, or unused for longest."""
    with _lock:
        files.users -= 1
        if not files.users and _files.get(key) is not files:
            shutil.rmtree(files.directory, ignore_errors=True)
        unused = [other for other in _files if other[:2] == key[:2] and not _files[other].users]
        for other in unused[:-_KEPT_UNUSED]:
            shutil.rmtree(_files.pop(other).directory, ignore_errors=True)
        for other in [other for other in _files if not os.path.isdir(other[0])]:
            del _files[other]  # its scratch directory is removed


def _write(scratch: str, names: Iterable[str], chunks: Iterable[Any]) -> _Files:
    try:
        directory = tempfile.mkdtemp(prefix="side-inputs-", dir=scratch)
    except OSError as error:
        raise ScriptEnvironmentError(
            f"a directory for the side inputs cannot be made in {scratch}: {error}. Set TMPDIR to a directory with "
            "space."
        ) from error
    digest = 0
    try:
        for name in names:
            write_dataset(os.path.join(directory, f"{name}.tfrecord"), ())
        for name, chunk in chunks:
            write_dataset(os.path.join(directory, f"{name}.tfrecord"), [chunk])
            digest += _digest(name, chunk)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return _Files(directory, digest)


def _digest(name: str, chunk: tuple[int, bytes]) -> int:
    """Return a digest of a side input's chunk. The digests of chunks are summed, since chunks come in any order."""
    person = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(hashlib.blake2b(chunk[1], digest_size=16, person=person).digest(), "little")

"""Publication of trained models: a local SavedModel becomes `model_dir/<version>/` on any of Beam's file systems.

The layout is TensorFlow Serving's: a directory per version, named by a number; the newest is the largest. A version is
complete or absent for every reader of `model_dir`, even if its publisher dies:

- On file systems with directories (local ones, HDFS), the model is copied to `model_dir/.publishing/`, and renamed from
  there in one atomic step. On local file systems, the model is synced to disk before the rename. The rename is synced
  before the version is returned. So a crash of the machine leaves no partial version either.
- Object stores (S3, GCS, Azure) have no atomic rename. There the model is uploaded to `.publishing/`, and copied within
  the store to `model_dir/<version>/`, with `saved_model.pb` last. Without that file, a directory is no model for
  TensorFlow, and TensorFlow Serving retries later.

A training is identified by its token. Its version's number is written to `.publishing/` before the version exists. The
token's key is written into the version itself (in `assets.extra/`, which TensorFlow does not read). So a repeated
training gets the same version again, and a number that was reserved but never published is not taken for a version.

Two publishers never write to one version. On local file systems, a lock lets one publisher at a time choose a number
and rename. On others, each publisher claims its number by an object of its own, and lists the claims of its rivals. Of
two publishers with the same number, the later one sees the other claim, and takes another number. If one training is
published twice at the same moment, a local file system gets one version; others may get two, each complete.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.files.beam_files import check_file_system
from beam_tfscript.files.uris import local_path, mask_uri
from beam_tfscript.models.remote_store import RemoteStore
from beam_tfscript.models.version_names import MODEL_FILES, STAGING_DIR, TOKEN_FILE, version_of
from beam_tfscript.runtime.transport import scratch

__all__ = ["check_model_dir", "publish"]

# Long, because the lock is held only for a listing and a rename.
_LOCK_TIMEOUT_S = 60.0


def check_model_dir(model_dir: str) -> str:
    """Check a model directory without reading or writing it, and return it.

    Raises:
      ArgumentError: no file system is known for `model_dir`, or Beam would take it for a pattern.
    """
    if local_path(model_dir) is not None:
        return model_dir
    if any(character in model_dir for character in "*?["):
        raise ArgumentError(f"model_dir must be a directory and not a pattern (* ? [), got {mask_uri(model_dir)!r}.")
    check_file_system("model_dir", model_dir)
    return model_dir


def publish(local_dir: str, model_dir: str, *, token: str) -> tuple[str, int]:
    """Copy a SavedModel to the next version's directory.

    Args:
      local_dir: the SavedModel's directory on this machine.
      model_dir: directory of the versions; a local path or a URI of any of Beam's file systems.
      token: identity of the training; the same token gets the same version again.

    Returns:
      The version's directory, and its number.

    Raises:
      ScriptEnvironmentError: `local_dir` is not a SavedModel, or `model_dir` cannot be written.
    """
    files = _files_of(local_dir)
    if not any(name in MODEL_FILES for name in files):
        raise ScriptEnvironmentError(f"{local_dir} is not a SavedModel: it has no {MODEL_FILES[0]}.")
    path = local_path(model_dir)
    store = RemoteStore(check_model_dir(model_dir)) if path is None else _LocalStore(path)
    key = hashlib.sha256(token.encode("utf-8")).hexdigest()[:32]
    try:
        return store.publish(local_dir, files, key)
    except Exception as error:  # each file system raises the errors of its own library
        shown = mask_uri(model_dir) if path is None else model_dir
        raise ScriptEnvironmentError(
            f"the model in {local_dir} cannot be published to {shown}: {type(error).__name__}: {error}"
        ) from error


class _LocalStore:
    """Versions on a local file system."""

    def __init__(self, directory: str):
        self._directory = directory
        self._staging = os.path.join(directory, STAGING_DIR)

    def publish(self, local_dir: str, files: list[str], key: str) -> tuple[str, int]:
        _make_directories(self._staging)
        version = self._find(key)
        if version is None:
            version = self._add(local_dir, files, key)
        # Also for a version that was found: its publisher may have died right after the rename.
        _sync(self._directory)
        return self._path(version), version

    def _add(self, local_dir: str, files: list[str], key: str) -> int:
        for entry in os.scandir(self._staging):
            if entry.name.startswith(scratch.PREFIX):
                scratch.remove_if_abandoned(entry.path)
        with _owned_directory(self._staging) as staged:
            model = os.path.join(staged, "model")
            for name in files:
                os.makedirs(os.path.dirname(os.path.join(model, name)), exist_ok=True)
                shutil.copyfile(os.path.join(local_dir, name), os.path.join(model, name))
            os.makedirs(os.path.dirname(os.path.join(model, TOKEN_FILE)), exist_ok=True)
            _write_text(os.path.join(model, TOKEN_FILE), key)
            _sync_tree(model)
            with _locked(os.path.join(self._staging, "lock")):
                version = self._find(key)
                if version is None:
                    version = max(map(version_of, os.listdir(self._directory))) + 1
                    # Before the version exists: else a repeat after a crash would not find it, and publish another.
                    _write_text(os.path.join(self._staging, key), str(version))
                    _sync(os.path.join(self._staging, key))
                    _sync(self._staging)
                    os.rename(model, self._path(version))
        return version

    def _find(self, key: str) -> int | None:
        version = version_of(_read_text(os.path.join(self._staging, key)))
        is_there = version and _read_text(os.path.join(self._path(version), TOKEN_FILE)) == key
        return version if is_there else None

    def _path(self, version: int) -> str:
        return os.path.join(self._directory, str(version))


@contextlib.contextmanager
def _owned_directory(parent: str) -> Iterator[str]:
    """Make a directory that is removed at the end, or by the next publisher if this process dies."""
    path, lock = scratch.make_owned(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the lock of a file; the system frees the lock if the process dies."""
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _make_directories(path: str) -> None:
    """Make a directory and its parents, so that they survive a crash of the machine."""
    parent, changed = os.path.abspath(path), []
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
        changed.append(parent)
    os.makedirs(path, exist_ok=True)
    for directory in changed:
        _sync(directory)


def _sync_tree(directory: str) -> None:
    """Sync a directory and all files below it to disk."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            _sync(os.path.join(folder, name))
        _sync(folder)


def _sync(path: str) -> None:
    """Sync a file's content, or a directory's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems cannot sync directories.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not os.path.isdir(path):
            raise
    finally:
        os.close(descriptor)


def _files_of(directory: str) -> list[str]:
    """Return the relative paths of a directory's files, sorted."""
    found = []
    for parent, _, names in os.walk(directory):
        found += [os.path.relpath(os.path.join(parent, name), directory) for name in names]
    return sorted(found)


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)

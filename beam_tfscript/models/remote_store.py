"""Versions of models on Beam's file systems; `model_store.py` has the guarantees and the method."""

from __future__ import annotations

import os
import random
import time
import uuid

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.files.beam_files import create, find, join, make_directory, remove_tree, upload
from beam_tfscript.files.uris import mask_uri
from beam_tfscript.models.version_names import MODEL_FILES, STAGING_DIR, TOKEN_FILE, version_of

__all__ = ["RemoteStore"]

_CLAIMS = "claims"
# Age at which files of a publisher are removed as those of a dead one. Lower would break slow uploads; higher would
# cost storage.
_ABANDONED_S = 24 * 3600
# An attempt fails only if two publishers claim the same number at once.
_CLAIM_ATTEMPTS = 50


class RemoteStore:
    """Versions on one of Beam's file systems."""

    def __init__(self, directory: str):
        self._directory = directory.rstrip("/")
        self._staging = FileSystems.join(self._directory, STAGING_DIR)
        self._claims = FileSystems.join(self._staging, _CLAIMS)
        self._has_dirs = FileSystems.get_filesystem(directory).has_dirs()

    def publish(self, local_dir: str, files: list[str], key: str) -> tuple[str, int]:
        version = self._find(key)
        if version is None:
            if self._has_dirs:
                for directory in (self._directory, self._staging, self._claims):
                    make_directory(directory)
            self._remove_abandoned()
            version = self._add(local_dir, files, key)
        return self._path(version), version

    def _add(self, local_dir: str, files: list[str], key: str) -> int:
        staged = FileSystems.join(self._staging, f"{int(time.time())}-{uuid.uuid4().hex}")
        claim = None
        try:
            for name in files:
                upload(os.path.join(local_dir, name), join(staged, name))
            _write_bytes(join(staged, TOKEN_FILE), key.encode("ascii"))
            version, claim = self._claim()
            found = self._find(key)
            if found is not None:
                return found
            _write_bytes(FileSystems.join(self._staging, key), str(version).encode("ascii"))
            self._move(staged, self._path(version), [*files, TOKEN_FILE])
            return version
        finally:
            remove_tree(staged)
            if claim is not None:
                FileSystems.delete([claim])

    def _move(self, staged: str, path: str, files: list[str]) -> None:
        if self._has_dirs:
            FileSystems.rename([staged], [path])
            return
        marks = [name for name in files if name in MODEL_FILES]
        for names in ([name for name in files if name not in marks], marks):
            pairs = [(join(staged, name), join(path, name)) for name in names]
            FileSystems.copy([source for source, _ in pairs], [target for _, target in pairs])
            # Beam's S3 file system returns errors instead of raising them.
            lost = [target for source, target in pairs if _size(source) != _size(target)]
            if lost:
                raise OSError(f"{len(lost)} files were not copied within the store, {mask_uri(lost[0])} the first")

    def _claim(self) -> tuple[int, str]:
        """Return a version that no other publisher has, and the path of the claim."""
        for attempt in range(_CLAIM_ATTEMPTS):
            # Random, so that two rivals do not choose the same number again.
            version = max(self._versions() | self._claimed().keys() | {0}) + 1 + random.randint(0, attempt)
            claim = FileSystems.join(self._claims, f"{version}-{int(time.time())}-{uuid.uuid4().hex}")
            _write_bytes(claim, b"claimed")  # not empty: Beam cannot write an empty object to S3
            # In this order: a rival with this number has published it already, or still has its claim.
            rivals = self._claimed().get(version, set()) - {claim.rpartition("/")[2]}
            if not rivals and version not in self._versions():
                return version, claim
            FileSystems.delete([claim])
        raise OSError(
            f"no version could be claimed in {_CLAIM_ATTEMPTS} attempts: too many models are published at once"
        )

    def _find(self, key: str) -> int | None:
        version = version_of(_read_remote(FileSystems.join(self._staging, key)))
        if not version or _read_remote(join(self._path(version), TOKEN_FILE)) != key:
            return None
        is_complete = any(FileSystems.exists(join(self._path(version), name)) for name in MODEL_FILES)
        return version if is_complete else None

    def _versions(self) -> set[int]:
        """Return the numbers of all directories, also of those that exist only as prefixes of objects."""
        paths = _list(FileSystems.join(self._directory, "*" if self._has_dirs else "**"))
        start = len(self._directory) + 1
        return {version_of(path[start:].partition("/")[0]) for path in paths}

    def _claimed(self) -> dict[int, set[str]]:
        """Return the claims' names by version."""
        found: dict[int, set[str]] = {}
        for path in _list(FileSystems.join(self._claims, "*")):
            name = path.rstrip("/").rpartition("/")[2]
            found.setdefault(version_of(name.partition("-")[0]), set()).add(name)
        return found

    def _remove_abandoned(self) -> None:
        """Remove the files of publishers that died long ago."""
        start, oldest = len(self._staging) + 1, time.time() - _ABANDONED_S
        paths = _list(FileSystems.join(self._staging, "*" if self._has_dirs else "**"))
        for name in {path[start:].partition("/")[0] for path in paths}:
            began, dash, _ = name.partition("-")
            if dash and began.isdigit() and int(began) < oldest:
                remove_tree(FileSystems.join(self._staging, name))

    def _path(self, version: int) -> str:
        return FileSystems.join(self._directory, str(version))


def _write_bytes(path: str, content: bytes) -> None:
    with create(path) as file:
        file.write(content)


def _read_remote(path: str) -> str:
    if not FileSystems.exists(path):
        return ""
    with FileSystems.open(path, "application/octet-stream", CompressionTypes.UNCOMPRESSED) as file:
        return file.read().decode("ascii", "replace")


def _list(pattern: str) -> list[str]:
    return [found.path for found in find(pattern)]


def _size(path: str) -> int | None:
    (found,) = FileSystems.match([path])[0].metadata_list or [None]
    return None if found is None else found.size_in_bytes

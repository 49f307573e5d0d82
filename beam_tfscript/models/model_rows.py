"""A SavedModel's directory to rows of text, and back, for machines without a shared file system.

The rows are `model_id bigint, model_info string`. Row 0 holds the model's name; rows 1, 2, 3 … hold, in order, the
base64 text of a zip file with the directory's content, at most 1 MiB of text each. The zip file depends only on the
files, so that a repeated bundle gives the same rows. Rows may arrive in any order.
"""

# Annotations are not postponed here: Beam reads those of `process` and `expand` as type hints.
import base64
import binascii
import hashlib
import itertools
import os
import shutil
import stat
import tempfile
import typing
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

from beam_tfscript.errors import RowError, ScriptEnvironmentError

__all__ = ["ModelRow", "join_rows", "model_to_rows", "unpack"]

MAX_ROW_CHARS = 1 << 20

# Three bytes are four characters, so no row but the last one ends in padding.
_ROW_BYTES = MAX_ROW_CHARS // 4 * 3
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
# Errors of an entry whose directory is a file in the zip file.
_CLASHES = (NotADirectoryError, IsADirectoryError, FileExistsError)
_COPY_BYTES = 1 << 20
_MAX_SHOWN_ROWS = 5


class ModelRow(typing.NamedTuple):
    """One row of a model."""

    model_id: int
    model_info: str


def model_to_rows(directory: str, name: str) -> Iterator[tuple[int, str]]:
    """Yield the rows of a SavedModel, with one row in memory at a time.

    Args:
      directory: the SavedModel's directory.
      name: the model's name, for row 0.

    Yields:
      (model_id, model_info).
    """
    yield 0, name
    with tempfile.TemporaryFile() as packed:
        _pack(directory, packed)
        packed.seek(0)
        number = 0
        while chunk := packed.read(_ROW_BYTES):
            number += 1
            yield number, base64.b64encode(chunk).decode("ascii")


def join_rows(rows: Iterable[tuple[int, str]], packed: IO[bytes]) -> tuple[str, str]:
    """Write the zip file that the rows hold.

    Args:
      rows: all rows of one model, in any order.
      packed: the file to write to.

    Returns:
      The model's name, and the zip file's SHA-256 hash.

    Raises:
      RowError: a row is missing, comes twice, or is damaged.
    """
    name = None
    with tempfile.TemporaryFile() as arrived:
        # On disk in the order of arrival, because a model may be larger than memory. model_id -> (offset, length).
        extents: dict[int, tuple[int, int]] = {}
        for model_id, text in rows:
            if model_id < 0:
                raise RowError(f"model_id must be at least 0, got {model_id}.")
            if model_id in extents or (model_id == 0 and name is not None):
                raise RowError(f"the model's row {model_id} comes twice: are these the rows of several models?")
            if model_id == 0:
                name = text
                continue
            start = arrived.tell()
            arrived.write(_decode(model_id, text))
            extents[model_id] = (start, arrived.tell() - start)
        _check_numbers(name, set(extents))
        digest = hashlib.sha256()
        for number in range(1, len(extents) + 1):
            start, length = extents[number]
            arrived.seek(start)
            part = arrived.read(length)
            digest.update(part)
            packed.write(part)
    return name or "", digest.hexdigest()


def _decode(model_id: int, text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise RowError(f"the model's row {model_id} is not base64 text: {error}.") from error


def _check_numbers(name: str | None, numbers: set[int]) -> None:
    if name is None:
        raise RowError("the model's row 0, which holds its name, is missing.")
    highest = max(numbers, default=1)
    missing = list(itertools.islice((number for number in range(1, highest) if number not in numbers), _MAX_SHOWN_ROWS))
    if not numbers or missing:
        shown = ", ".join(map(str, missing or [1]))
        raise RowError(
            f"of the model's rows 1 to {highest}, {highest - len(numbers)} are missing: {shown}"
            f"{' …' if highest - len(numbers) > _MAX_SHOWN_ROWS else ''}."
        )


def _pack(directory: str, packed: IO[bytes]) -> None:
    """Write a directory as a zip file that depends on names and contents only."""
    # Uncompressed: compressed bytes depend on the library's version, and weights hardly shrink.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path, is_directory in _entries_of(directory):
            name = os.path.relpath(path, directory).replace(os.sep, "/")
            entry = zipfile.ZipInfo(name + "/" if is_directory else name, _ZIP_EPOCH)
            entry.create_system = 3  # Unix, so that the mode is read
            entry.external_attr = (stat.S_IFREG | _FILE_MODE) << 16
            if is_directory:
                entry.external_attr = (stat.S_IFDIR | _DIRECTORY_MODE) << 16
                archive.writestr(entry, b"")
                continue
            entry.file_size = os.path.getsize(path)
            with open(path, "rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)


def _entries_of(directory: str) -> list[tuple[str, bool]]:
    """Return the path of each file and each empty directory, sorted, with True for a directory."""
    found = []
    for parent, names, files in os.walk(directory):
        found += [(os.path.join(parent, name), False) for name in files]
        if not names and not files and parent != directory:
            found.append((parent, True))
    return sorted(found)


def unpack(packed: IO[bytes], directory: str) -> None:
    """Unpack a zip file to a directory.

    Args:
      packed: the zip file.
      directory: made if it does not exist, else it must be empty. After an error, it has no files.

    Raises:
      RowError: the zip file is damaged, or has an entry that leads out of the directory.
      ScriptEnvironmentError: the directory is not empty.
    """
    directory = os.path.abspath(directory)
    if os.path.isdir(directory) and os.listdir(directory):
        raise ScriptEnvironmentError(
            f"a model cannot be unpacked to {directory}: the directory must be empty or not exist."
        )
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=parent) as scratch:
        target = os.path.join(scratch, "model")
        os.mkdir(target)
        try:
            with zipfile.ZipFile(packed) as archive:
                _check_entries(archive.infolist())
                archive.extractall(target)
        except (*_ZIP_ERRORS, *_CLASHES) as error:
            raise RowError(
                "the model's rows do not make a zip file; the last ones may be missing: "
                f"{type(error).__name__}: {error}"
            ) from error
        os.rename(target, directory)


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    names = set()
    for entry in entries:
        parts = entry.filename.split("/")
        leads_out = entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename
        if leads_out or stat.S_ISLNK(entry.external_attr >> 16):
            raise RowError(f"the model's zip file has an entry that may lead out of its directory: {entry.filename!r}.")
        if entry.filename in names:
            raise RowError(f"the model's zip file has two entries of one name: {entry.filename!r}.")
        names.add(entry.filename)

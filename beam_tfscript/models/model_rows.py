"""A SavedModel as rows, for where a file system is not shared: a directory in, rows of text out, and back.

The rows are `model_id bigint, model_info string`. Row 0 holds the model's name; rows 1, 2, 3 … hold, in order, the
base64 text of a zip file with the directory's content, at most 1 MiB of text each. The zip file is the same for the
same files, wherever and whenever it is made, so that a repeated bundle gives the same rows. Rows may arrive in any
order.
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

__all__ = ["ModelRow", "join_rows", "model_to_rows", "rows_to_model", "unpack"]

MAX_ROW_CHARS = 1 << 20

# Three bytes are four characters, so no row but the last one ends in padding.
_ROW_BYTES = MAX_ROW_CHARS // 4 * 3
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
# A file where another entry wants a directory.
_CLASHES = (NotADirectoryError, IsADirectoryError, FileExistsError)
_COPY_BYTES = 1 << 20
_NAMED_IN_ERRORS = 5


class ModelRow(typing.NamedTuple):
    """One row of a model."""

    model_id: int
    model_info: str


def model_to_rows(directory: str, name: str) -> Iterator[tuple[int, str]]:
    """The rows of a SavedModel, a row in memory at a time.

    Args:
      directory: the SavedModel's directory.
      name: what row 0 says.

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


def rows_to_model(rows: Iterable[tuple[int, str]], directory: str) -> str:
    """Makes the SavedModel's directory again.

    Args:
      rows: all rows of one model, in any order.
      directory: where it goes; made if it is not there, else it must be empty. When this raises, nothing is in it.

    Returns:
      The model's name.

    Raises:
      RowError: a row is missing, there twice or damaged, or the zip file has an entry that leads out of `directory`.
      ScriptEnvironmentError: `directory` is not empty.
    """
    with tempfile.TemporaryFile() as packed:
        name, _ = join_rows(rows, packed)
        unpack(packed, directory)
    return name


def join_rows(rows: Iterable[tuple[int, str]], packed: IO[bytes]) -> tuple[str, str]:
    """Writes the zip file that the rows hold; returns the model's name and the file's SHA-256."""
    name = None
    with tempfile.TemporaryFile() as arrived:
        # In the order they come in: a model may be larger than memory, and its rows come in any order.
        places: dict[int, tuple[int, int]] = {}
        for model_id, text in rows:
            if model_id < 0:
                raise RowError(f"model_id must be at least 0, got {model_id}.")
            if model_id in places or (model_id == 0 and name is not None):
                raise RowError(f"the model's row {model_id} is there twice: are these the rows of several models?")
            if model_id == 0:
                name = text
                continue
            start = arrived.tell()
            arrived.write(_decode(model_id, text))
            places[model_id] = (start, arrived.tell() - start)
        _check_numbers(name, set(places))
        digest = hashlib.sha256()
        for number in range(1, len(places) + 1):
            start, length = places[number]
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
    missing = list(
        itertools.islice((number for number in range(1, highest) if number not in numbers), _NAMED_IN_ERRORS)
    )
    if not numbers or missing:
        shown = ", ".join(map(str, missing or [1]))
        raise RowError(
            f"of the model's rows 1 to {highest}, {highest - len(numbers)} are missing: {shown}"
            f"{' …' if highest - len(numbers) > _NAMED_IN_ERRORS else ''}."
        )


def _pack(directory: str, packed: IO[bytes]) -> None:
    """Writes a directory as a zip file that depends on names and contents only."""
    # Stored: what compression makes of a file depends on the library's version, and weights hardly get smaller.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path, is_directory in _entries_of(directory):
            name = os.path.relpath(path, directory).replace(os.sep, "/")
            entry = zipfile.ZipInfo(name + "/" if is_directory else name, _ZIP_EPOCH)
            entry.create_system = 3  # Unix, where the mode is
            entry.external_attr = (stat.S_IFREG | _FILE_MODE) << 16
            if is_directory:
                entry.external_attr = (stat.S_IFDIR | _DIRECTORY_MODE) << 16
                archive.writestr(entry, b"")
                continue
            entry.file_size = os.path.getsize(path)
            with open(path, "rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)


def _entries_of(directory: str) -> list[tuple[str, bool]]:
    """(path, whether it is a directory) of each file and each empty directory, sorted."""
    found = []
    for parent, names, files in os.walk(directory):
        found += [(os.path.join(parent, name), False) for name in files]
        if not names and not files and parent != directory:
            found.append((parent, True))
    return sorted(found)


def unpack(packed: IO[bytes], directory: str) -> None:
    """Unpacks a zip file to a directory, all of it or nothing."""
    directory = os.path.abspath(directory)
    if os.path.isdir(directory) and os.listdir(directory):
        raise ScriptEnvironmentError(f"a model cannot be unpacked to {directory}: it must be empty or not be there.")
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

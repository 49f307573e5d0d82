"""Unpacking of archives, with nothing written outside the target directory.

Input: a zip or tar file, which need not be trusted. Output: its files, or an error and no file: every entry is checked
before the first is written.
"""

from __future__ import annotations

import contextlib
import logging
import lzma
import os
import posixpath
import shutil
import tarfile
import time
import zipfile
import zlib
from typing import IO

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files.archive_entries import DIRECTORY, FILE, HARD_LINK, SYMLINK, Entry, clean_path, list_entries

__all__ = ["SUFFIXES", "check_archive", "strip_suffix", "unpack"]

_LOGGER = logging.getLogger("beam_tfscript.script")

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_COPY_BYTES = 1 << 20
# Interval of log lines about the progress of a large archive, which takes minutes.
_NOTICE_S = 15.0
_TAR_MAGICS = ((0, b"\x1f\x8b"), (0, b"BZh"), (0, b"\xfd7zXZ\x00"), (257, b"ustar"))
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Errors of the standard library for bytes that are not as their header says.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    OverflowError,
    ValueError,
)


def check_archive(path: str, *, name: str) -> None:
    """Check by a file's first bytes that it is an archive.

    Args:
      path: the file.
      name: the file's name in errors.

    Raises:
      ScriptEnvironmentError: the file cannot be read, or `unpack` cannot unpack such an archive.
    """
    try:
        _sniff(path, name)
    except OSError as error:
        raise ScriptEnvironmentError(f"{name} cannot be read: {error}") from error


def strip_suffix(name: str) -> str:
    """Return a file's name without an archive's suffix."""
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def unpack(archive_path: str, directory: str, *, name: str, links: bool = False) -> None:
    """Unpack all files of an archive into a directory, or none of them.

    Executable bits are kept. An archive is refused if it has a device, or an entry that would be written outside, comes
    twice, or exists already.

    Args:
      archive_path: a zip or tar file, the latter plain or compressed by gzip, bzip2 or xz.
      directory: the target; made if it does not exist.
      name: the archive's name in errors, without secrets.
      links: True makes symbolic links that are relative and stay inside; False refuses all links.

    Raises:
      ScriptEnvironmentError: the archive is broken or unsafe, or the disk is full.
    """
    made: list[str] = []
    try:
        with _open(archive_path, name) as pack:
            entries = list_entries(pack, directory, name=name, links=links)
            _check_space(entries, directory, name)
            _write(pack, entries, directory, name, made)
            made.clear()
    except _BROKEN as error:
        raise ScriptEnvironmentError(f"{name} is not an archive that can be unpacked: {error}") from error
    except OSError as error:
        raise ScriptEnvironmentError(f"{name} cannot be unpacked into {directory}: {error}") from error
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                os.unlink(path) if not os.path.isdir(path) or os.path.islink(path) else os.rmdir(path)


def _open(path: str, name: str) -> zipfile.ZipFile | tarfile.TarFile:
    if _sniff(path, name) == "zip":
        return zipfile.ZipFile(path)
    return tarfile.open(path)


def _sniff(path: str, name: str) -> str:
    with open(path, "rb") as file:
        head = file.read(512)
    if head.startswith(_ZSTD_MAGIC):
        raise ScriptEnvironmentError(
            f"{name} is compressed by zstd, which cannot be unpacked here: pack it as .tar.gz or .zip."
        )
    # Tar comes first: a zip file is identified by its last bytes, and a tar file may end in a zip file.
    if any(head[at:].startswith(magic) for at, magic in _TAR_MAGICS):
        return "tar"
    if zipfile.is_zipfile(path):
        return "zip"
    if tarfile.is_tarfile(path):
        return "tar"
    raise ScriptEnvironmentError(f"{name} is not an archive: it must be one of {', '.join(SUFFIXES)}.")


def _check_space(entries: list[Entry], directory: str, name: str) -> None:
    needed = sum(entry.size for entry in entries if entry.kind == FILE)
    existing = os.path.abspath(directory)
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise ScriptEnvironmentError(
            f"{name} cannot be unpacked into {directory}: it needs {needed >> 20} MiB, and {free >> 20} MiB are free. "
            "Free space there."
        )


def _write(
    pack: zipfile.ZipFile | tarfile.TarFile, entries: list[Entry], directory: str, name: str, made: list[str]
) -> None:
    """Write checked entries, links last, so that no file is written through a link.

    Args:
      pack: the archive.
      entries: the archive's entries.
      directory: the target.
      name: the archive's name in the log.
      made: list to which each new path is added, to be removed after a failure.
    """
    directories = {""}
    if not os.path.isdir(directory):
        os.makedirs(directory)
        made.append(directory)
    notice_at = time.monotonic() + _NOTICE_S
    for number, entry in enumerate(entries):
        folder = entry.path if entry.kind == DIRECTORY else posixpath.dirname(entry.path)
        _make_directories(folder, directory, directories, made)
        if entry.kind == FILE:
            _write_file(pack, entry, os.path.join(directory, entry.path), made)
        if time.monotonic() > notice_at:
            notice_at += _NOTICE_S
            _LOGGER.info("unpacking %s: %d of %d entries", name, number + 1, len(entries))
    for entry in entries:
        path = os.path.join(directory, entry.path)
        if entry.kind == HARD_LINK:
            os.link(os.path.join(directory, clean_path(entry.target)), path)
            made.append(path)
        elif entry.kind == SYMLINK:
            os.symlink(entry.target, path)
            made.append(path)


def _write_file(pack: zipfile.ZipFile | tarfile.TarFile, entry: Entry, path: str, made: list[str]) -> None:
    mode = 0o755 if entry.is_executable else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    made.append(path)
    with open(descriptor, "wb") as target, _open_entry(pack, entry) as source:
        shutil.copyfileobj(source, target, _COPY_BYTES)
    if entry.modified is not None:
        # A compiled module holds its source's time, and is used only if that time matches.
        with contextlib.suppress(OSError, OverflowError):
            os.utime(path, (entry.modified, entry.modified))


def _make_directories(path: str, directory: str, known: set[str], made: list[str]) -> None:
    if path in known:
        return
    _make_directories(posixpath.dirname(path), directory, known, made)
    full = os.path.join(directory, path)
    if not os.path.isdir(full):
        os.mkdir(full)
        made.append(full)
    known.add(path)


def _open_entry(pack: zipfile.ZipFile | tarfile.TarFile, entry: Entry) -> IO[bytes]:
    if isinstance(pack, zipfile.ZipFile):
        return pack.open(entry.member)
    source = pack.extractfile(entry.member)
    assert source is not None
    return source

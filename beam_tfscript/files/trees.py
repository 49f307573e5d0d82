"""Zips and copies of the script's directories, both with the same tree.

Links are followed, so that no path leads out of the tree: a link to a file becomes a copy of the file, and a link to a
directory a copy of the directory. Empty directories and executable bits are kept; times and other modes are not.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["TreeEntry", "copy_tree", "list_tree", "make_read_only", "zip_tree"]

_ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class TreeEntry(NamedTuple):
    """A file or directory in a tree.

    Attributes:
      path: path on this machine, which may go through links.
      name: path in the tree.
      size: a file's size in bytes.
      is_directory: True for a directory, which comes before its entries.
      is_executable: True if an executable bit is set.
    """

    path: str
    name: str
    size: int
    is_directory: bool
    is_executable: bool


def list_tree(directory: str) -> Iterator[TreeEntry]:
    """Yield all entries of a directory's tree, always in the same order.

    Raises:
      OSError: an entry cannot be read, is neither a file nor a directory, or is a bad link. A bad link leads to a
        missing file, or to a directory that contains the link.
    """
    return _list(directory, "", (os.path.realpath(directory),))


def zip_tree(directory: str, target: str | io.BytesIO, compression: int = zipfile.ZIP_DEFLATED) -> None:
    """Pack a directory.

    Raises:
      OSError: as for `list_tree`.
    """
    # A zip file has no years before 1980, and reproducible builds set files' times to 0, which is 1970.
    with zipfile.ZipFile(target, "w", compression, strict_timestamps=False) as archive:
        for entry in list_tree(directory):
            try:
                archive.write(entry.path, entry.name)
            except UnicodeEncodeError as error:
                raise OSError(errno.EILSEQ, "the name is not UTF-8, as it must be in a zip file", entry.path) from error


def copy_tree(directory: str, target: str) -> None:
    """Copy a directory to one that does not exist yet.

    Raises:
      OSError: as for `list_tree`, or the copy cannot be written.
    """
    os.mkdir(target)
    for entry in list_tree(directory):
        path = os.path.join(target, entry.name)
        if entry.is_directory:
            os.mkdir(path)
        else:
            shutil.copyfile(entry.path, path)
            os.chmod(path, 0o755 if entry.is_executable else 0o644)


def make_read_only(directory: str) -> None:
    """Remove the write permission of all entries of a directory's tree; the directory itself stays writable."""
    for folder, inner, names in os.walk(directory):
        for name in (*inner, *names):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~_ANY_WRITE)


def _list(folder: str, prefix: str, reals: tuple[str, ...]) -> Iterator[TreeEntry]:
    """Yield the entries of a folder's tree.

    Args:
      folder: path, which may go through links.
      prefix: start of its entries' names.
      reals: real path of the folder, and of each folder with a link on the way to it.
    """
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        status = _stat(entry)
        is_directory = stat.S_ISDIR(status.st_mode)
        is_executable = bool(status.st_mode & 0o111)
        yield TreeEntry(entry.path, prefix + entry.name, status.st_size, is_directory, is_executable)
        if is_directory:
            yield from _list(entry.path, f"{prefix}{entry.name}/", _follow(entry, reals))


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        status = entry.stat()
    except FileNotFoundError as error:
        if not entry.is_symlink():
            raise
        raise OSError(errno.ENOENT, "a link that leads nowhere", entry.path) from error
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "neither a file nor a directory", entry.path)
    return status


def _follow(entry: os.DirEntry[str], reals: tuple[str, ...]) -> tuple[str, ...]:
    """Return `reals` for a folder in the first of `reals`."""
    if not entry.is_symlink():
        return os.path.join(reals[0], entry.name), *reals[1:]
    target = os.path.realpath(entry.path)
    if any(os.path.commonpath([target, real]) == target for real in reals):
        raise OSError(errno.ELOOP, "a link to a directory that it is in", entry.path)
    return target, *reals

"""Entries of an archive, and the rules by which an unsafe archive is refused.

Input: an open zip or tar file. Output: its entries, none of which would be written, or would lead, outside the target
directory. tarfile's own data filter (PEP 706) is not used, because it checks less:

- It checks an entry when it is extracted. Here all entries are checked before the first is written.
- It makes absolute names relative. It also allows entries that come twice, replace a file, or go through a link.
- It is for tar files only, and Python 3.10.0 to 3.10.11 and 3.11.0 to 3.11.3 do not have it.
- Before Python 3.10.18, 3.11.13, 3.12.11 and 3.13.4, long paths and chains of links get past it (CVE-2025-4138,
  CVE-2025-4330, CVE-2025-4517).
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from beam_tfscript.errors import ScriptEnvironmentError

__all__ = ["DIRECTORY", "FILE", "HARD_LINK", "SYMLINK", "Entry", "clean_path", "list_entries"]

FILE, DIRECTORY, SYMLINK, HARD_LINK = "file", "directory", "symlink", "hard link"
# Links in one path that Linux follows; a path with more is taken for a cycle.
_MAX_SYMLINKS = 40
_READ_BYTES = 1 << 20


class Entry(NamedTuple):
    """One entry of an archive.

    Attributes:
      name: the entry's name in the archive.
      path: the name without dots, relative to the target directory.
      kind: `FILE`, `DIRECTORY`, `SYMLINK`, `HARD_LINK`, or "device" for any other.
      target: a link's target; "" for other entries.
      size: a file's size in bytes.
      is_executable: True if a file has an executable bit.
      modified: seconds since 1970; None in a zip file.
      member: the library's own object.
    """

    name: str
    path: str
    kind: str
    target: str
    size: int
    is_executable: bool
    modified: float | None
    member: Any


def list_entries(pack: zipfile.ZipFile | tarfile.TarFile, directory: str, *, name: str, links: bool) -> list[Entry]:
    """Return the entries of an archive, all of them safe to write.

    Args:
      pack: the archive; it is read to its end.
      directory: the target directory, which may hold files already.
      name: the archive's name in errors.
      links: True allows symbolic links that stay inside the directory.

    Raises:
      ScriptEnvironmentError: the archive is damaged, or an entry is refused.
    """
    entries = list(_list_zip(pack, name) if isinstance(pack, zipfile.ZipFile) else _list_tar(pack, name))
    _check_entries(entries, directory, name, links)
    return entries


def _list_zip(pack: zipfile.ZipFile, name: str) -> Iterator[Entry]:
    for info in pack.infolist():
        if info.flag_bits & 1:
            raise ScriptEnvironmentError(f"{name} is encrypted: pack it without a password.")
        mode = info.external_attr >> 16
        kinds = {0: FILE, stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}
        kind = DIRECTORY if info.is_dir() else kinds.get(stat.S_IFMT(mode), "device")
        target = os.fsdecode(pack.open(info).read(os.pathconf("/", "PC_PATH_MAX"))) if kind == SYMLINK else ""
        yield Entry(
            info.filename, clean_path(info.filename), kind, target, info.file_size, bool(mode & 0o111), None, info
        )


def _list_tar(pack: tarfile.TarFile, name: str) -> Iterator[Entry]:
    for info in pack:
        kind = FILE if info.isfile() else DIRECTORY if info.isdir() else SYMLINK if info.issym() else "device"
        if info.islnk():
            kind = HARD_LINK
        target = info.linkname if kind in (SYMLINK, HARD_LINK) else ""
        yield Entry(
            info.name, clean_path(info.name), kind, target, info.size, bool(info.mode & 0o111), info.mtime, info
        )  # fmt: skip
    # tarfile takes a damaged header for the end, which is a block of zeros. The rest of a compressed file is read too,
    # so that its checksum is compared.
    file = pack.fileobj
    assert file is not None
    file.seek(pack.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ScriptEnvironmentError(f"{name} is cut short or damaged after {pack.offset} bytes: pack it again.")
    while file.read(_READ_BYTES):
        pass


def clean_path(name: str) -> str:
    """Return an entry's name without dots; "" for the target directory itself."""
    return "" if (path := posixpath.normpath(name)) == "." else path


def _check_entries(entries: list[Entry], directory: str, name: str, links: bool) -> None:
    """Refuse the archive if an entry would be written, or would lead, outside the directory."""
    kinds: dict[str, str] = {}
    for entry in entries:
        if entry.path.startswith("/") or ".." in entry.path.split("/"):
            _refuse(name, entry, "which would be written outside")
        if entry.kind == "device" or (entry.kind == SYMLINK and not links):
            _refuse(name, entry, f"which is a {entry.kind}: pack plain files")
        if entry.path in kinds and not kinds[entry.path] == entry.kind == DIRECTORY:
            _refuse(name, entry, "more than once")
        kinds[entry.path] = entry.kind
    kinds[""] = DIRECTORY
    symlinks = {entry.path: entry.target for entry in entries if entry.kind == SYMLINK}
    real_directories = {""}
    for entry in entries:
        _check_parents(entry, kinds, directory, name, real_directories)
        if entry.kind == HARD_LINK and kinds.get(clean_path(entry.target)) != FILE:
            _refuse(name, entry, f"a hard link to {entry.target!r}, which is not a file of the archive")
        if entry.kind == SYMLINK and not _stays_inside(entry, symlinks, directory):
            _refuse(
                name,
                entry,
                f"a link to {entry.target!r}, which is outside. A Python environment whose interpreter is outside "
                "cannot be moved: pack it with conda-pack, or make it with `python -m venv --copies`",
            )


def _check_parents(entry: Entry, kinds: dict[str, str], directory: str, name: str, known: set[str]) -> None:
    """Refuse an entry whose path goes through a link or a file, of the archive or in the directory already."""
    if entry.kind != DIRECTORY and (not entry.path or os.path.lexists(os.path.join(directory, entry.path))):
        _refuse(name, entry, "which exists already")
    path = entry.path if entry.kind == DIRECTORY else posixpath.dirname(entry.path)
    while path not in known:
        full = os.path.join(directory, path)
        is_real = not os.path.lexists(full) or (os.path.isdir(full) and not os.path.islink(full))
        if kinds.get(path, DIRECTORY) != DIRECTORY or not is_real:
            _refuse(name, entry, f"which would be written through {path!r}")
        known.add(path)
        path = posixpath.dirname(path)


def _stays_inside(entry: Entry, symlinks: dict[str, str], directory: str) -> bool:
    """Return True if a symbolic link stays inside the directory, also through other links of the archive."""
    pending = entry.path.split("/")[::-1]
    parts: list[str] = []
    followed = 0
    while pending:
        part = pending.pop()
        if part == "..":
            if not parts:
                return False
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
            path = "/".join(parts)
            if os.path.islink(os.path.join(directory, path)):
                return False  # a link that exists already, whose target is not checked
            if path in symlinks:
                followed += 1
                if followed > _MAX_SYMLINKS or symlinks[path].startswith("/"):
                    return False
                parts.pop()
                pending += symlinks[path].split("/")[::-1]
    return True


def _refuse(name: str, entry: Entry, reason: str) -> None:
    raise ScriptEnvironmentError(f"{name} is refused: it holds {entry.name!r}, {reason}.")

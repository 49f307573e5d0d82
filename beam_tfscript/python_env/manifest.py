"""Lists of the files of environments, written when they are complete, to detect missing files later.

A list holds each file's size and path. Files that were added or grew are no damage: scripts and their packages write
caches.
"""

from __future__ import annotations

import os

__all__ = ["find_damage", "write_manifest"]

# Compiled modules may be removed; Python makes them again.
_LEFT_OUT = "__pycache__"
_ENCODING, _ERRORS = "utf-8", "surrogateescape"


def write_manifest(root: str, path: str) -> None:
    """Write the list of a directory's files.

    Args:
      root: the directory.
      path: path of the list, outside the directory.
    """
    lines = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name != _LEFT_OUT]
        links = [name for name in inner if os.path.islink(os.path.join(folder, name))]
        for name in names + links:
            full = os.path.join(folder, name)
            lines.append(f"{os.lstat(full).st_size} {os.path.relpath(full, root)}")
    # NUL is the only character that no path has. The count detects a list that was cut short.
    with open(path, "w", encoding=_ENCODING, errors=_ERRORS, newline="") as file:
        file.write("\0".join([str(len(lines)), *lines]))


def find_damage(root: str, path: str) -> str | None:
    """Return a description of the files that are missing since the list was written; None if there are none.

    Args:
      root: the directory.
      path: path of the list.

    Raises:
      OSError: the files cannot be checked.
    """
    try:
        with open(path, encoding=_ENCODING, errors=_ERRORS, newline="") as file:
            count, *lines = file.read().split("\0")
    except FileNotFoundError:
        # Earlier versions of this package wrote no list. On a read-only disk, nothing can have removed it.
        return "there is no list of its files" if os.access(os.path.dirname(path), os.W_OK) else None
    if count != str(len(lines)):
        return "the list of its files is cut short"
    lost = [line.partition(" ")[2] for line in lines if not _is_there(root, line)]
    if not lost:
        return None
    return f"{len(lost)} of its {len(lines)} files are gone or cut short, {lost[0]} the first"


def _is_there(root: str, line: str) -> bool:
    size, _, name = line.partition(" ")
    try:
        return os.lstat(os.path.join(root, name)).st_size >= int(size)
    except (FileNotFoundError, NotADirectoryError):
        return False

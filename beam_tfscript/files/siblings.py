"""Modules in a local script's folder that the script imports, found as `python score.py` would import them.

Input: the script's path, and the names of files that are staged anyway. Output: paths of files and packages in the
script's folder.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["find_siblings"]

# This package, of which each script process has its own copy.
_OWN_PACKAGE = "beam_tfscript"


class _Imported(NamedTuple):
    """An imported module: the first part of its name, and the second part or ""."""

    name: str
    inner: str


def find_siblings(script_path: str, given: Iterable[str]) -> list[str]:
    """Find the modules that a script imports from its own folder, directly or through other modules there.

    Args:
      script_path: the script's local file.
      given: names of files that are staged beside the script anyway.

    Returns:
      Paths of files and directories, sorted.
    """
    # The folder of the file itself, not of a link to it, as Python does.
    folder = os.path.dirname(os.path.realpath(script_path))
    seen = {_OWN_PACKAGE, *(os.path.splitext(name)[0] for name in given)}
    found: list[str] = []
    pending = [os.path.realpath(script_path)]
    while pending:
        for imported in _imports_of(pending.pop()):
            if imported.name in seen:
                continue
            path = _find(folder, imported)
            if path is not None:
                seen.add(imported.name)
                found.append(path)
                pending += _sources_of(path)
    return sorted(found)


def _find(folder: str, imported: _Imported) -> str | None:
    """Return the path of a package or module in a folder, in the order of Python's search; None if there is none."""
    package = os.path.join(folder, imported.name)
    if os.path.isfile(os.path.join(package, "__init__.py")):
        return package
    if os.path.isfile(package + ".py"):
        return package + ".py"
    # A folder without __init__.py may hold only data. It is a package if it has the imported module.
    inner = os.path.join(package, imported.inner)
    if imported.inner and (os.path.isfile(inner + ".py") or os.path.isfile(os.path.join(inner, "__init__.py"))):
        return package
    return None


def _imports_of(path: str) -> Iterator[_Imported]:
    """Yield the absolute imports of a file, also those inside functions; none if the file cannot be parsed."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), filename=path)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # the run shows the error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name, _, rest = alias.name.partition(".")
                yield _Imported(name, rest.partition(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            name, _, rest = node.module.partition(".")
            for alias in node.names:
                yield _Imported(name, rest.partition(".")[0] or alias.name)


def _sources_of(path: str) -> Iterator[str]:
    """Yield the Python files of a module or package."""
    if not os.path.isdir(path):
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names if name.endswith(".py"))

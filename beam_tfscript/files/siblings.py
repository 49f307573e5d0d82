"""Modules beside a local script that it imports, found while the pipeline is built as `python score.py` finds them.

In come the script's path and the names that are given already. Out go paths of files and packages in its folder.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["find_siblings"]

# Scripts' processes have their own copy of this package, wherever the script lies.
_OWN = "beam_tfscript"


class _Imported(NamedTuple):
    """One imported module: its first name, and the name that follows it, or ""."""

    name: str
    inner: str


def find_siblings(script_path: str, given: Iterable[str]) -> list[str]:
    """Find what a script imports from its own folder, directly or by way of modules found there.

    Args:
      script_path: the script's file on this machine.
      given: names of files that are staged beside the script anyway.

    Returns:
      Paths of files and directories, sorted.
    """
    # As Python does: the folder of the file itself, not that of a link to it.
    folder = os.path.dirname(os.path.realpath(script_path))
    seen = {_OWN, *(os.path.splitext(name)[0] for name in given)}
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
    """The package or module of that name in a folder, in the order in which Python looks."""
    package = os.path.join(folder, imported.name)
    if os.path.isfile(os.path.join(package, "__init__.py")):
        return package
    if os.path.isfile(package + ".py"):
        return package + ".py"
    # A folder without __init__.py may be anything, such as data: it must hold the module that is asked for.
    inner = os.path.join(package, imported.inner)
    if imported.inner and (os.path.isfile(inner + ".py") or os.path.isfile(os.path.join(inner, "__init__.py"))):
        return package
    return None


def _imports_of(path: str) -> Iterator[_Imported]:
    """Absolute imports of a file, also those inside functions; none where it cannot be parsed: the run says why."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), filename=path)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
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
    """The Python files of a module or package."""
    if not os.path.isdir(path):
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names if name.endswith(".py"))

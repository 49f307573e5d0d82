"""Finds the tools that engines are built with, and the directory that they are built into."""

from __future__ import annotations

import pathlib
import shutil

BUILD = pathlib.Path(__file__).parents[2] / "build"


class ToolMissing(Exception):
    """A tool is not on this machine, so that the engine's tests cannot run here."""


def find_tool(name: str, *, engine: str) -> str:
    """The path of an executable.

    Raises:
      ToolMissing: it is not on PATH.
    """
    path = shutil.which(name)
    if path is None:
        raise ToolMissing(f"{engine} needs `{name}`, which is not on PATH: its tests are skipped.")
    return path

"""The boot program of Beam's Python containers, in Go: it fetches a job's artifacts and starts a worker."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess

from tests.engines.tools import BUILD, find_tool

_VERSION = "v" + importlib.metadata.version("apache-beam")


def find_boot() -> str:
    """Return the program's path; it is compiled once per version."""
    directory = BUILD / "boot" / _VERSION
    if not (directory / "container").exists():
        package = f"github.com/apache/beam/sdks/v2/python/container@{_VERSION}"
        environment = {**os.environ, "GOBIN": str(directory)}
        subprocess.run([find_tool("go", engine="The boot program"), "install", package], env=environment, check=True)
    return str(directory / "container")

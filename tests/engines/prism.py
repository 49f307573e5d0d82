"""Prism, Beam's local runner in Go: compiled by `go install`, in the version of the Python SDK that is installed."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import subprocess

from tests.engines.tools import BUILD, find_tool

NAME = "Prism"
ANNOUNCEMENT = "endpoint="
OPTIONS = ()

_VERSION = "v" + importlib.metadata.version("apache-beam")
_DIRECTORY = BUILD / "prism" / _VERSION


def build() -> None:
    """Compiles it, once a version."""
    if not (_DIRECTORY / "prism").exists():
        package = f"github.com/apache/beam/sdks/v2/go/cmd/prism@{_VERSION}"
        environment = {**os.environ, "GOBIN": str(_DIRECTORY)}
        subprocess.run([find_tool("go", engine=NAME), "install", package], env=environment, check=True)


def command(directory: pathlib.Path) -> list[str]:
    """The job server's command, on any free port."""
    return [str(_DIRECTORY / "prism"), "--job_port=0", "--serve_http=false", "--log_kind=text"]

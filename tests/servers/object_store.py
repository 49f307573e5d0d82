"""Moto's S3 server, in a process of its own: the command that starts it, for `tests.engines.server.started`."""

from __future__ import annotations

import pathlib
import sys

NAME = "The S3 server"
ANNOUNCEMENT = "Running on http://"


def command(directory: pathlib.Path) -> list[str]:
    """The server's command, on a free port."""
    return [sys.executable, "-m", "moto.server", "-H", "localhost", "-p", "0"]

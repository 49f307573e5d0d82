"""Names of files: local paths and URIs of any file system that Beam knows."""

from __future__ import annotations

import os
import re

from apache_beam.io.filesystems import FileSystems

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError

_SCHEME = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*://")


def local_path(uri: str) -> str | None:
    """The path of a plain or `file://` name; None for anything that is not on this machine."""
    if uri.startswith("file://"):
        return uri[len("file://") :]
    return None if _SCHEME.match(uri) else uri


def base_name(uri: str) -> str:
    """The last part of the name, which is the file's name in the run's directory."""
    return os.path.basename(uri.rstrip("/"))


def check_scheme(argument: str, uri: str) -> None:
    """Raises ArgumentError where no file system of Beam takes the URI."""
    try:
        FileSystems.get_filesystem(uri)
    except ValueError as error:
        raise ArgumentError(
            f"{argument}: no file system is known for {uri!r}. Give a local path, file://, or a scheme that Apache "
            "Beam has a file system for; gs:// and s3:// need their extra, as in apache-beam[gcp] or [aws]."
        ) from error


def read_bytes(uri: str) -> bytes:
    """The content of a file of any of Beam's file systems.

    Raises:
      ScriptEnvironmentError: it cannot be read.
    """
    try:
        with FileSystems.open(uri) as file:
            return file.read()
    except (OSError, ValueError, RuntimeError) as error:
        raise ScriptEnvironmentError(f"{uri} cannot be read on this worker: {error}") from error

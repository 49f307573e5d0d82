"""Names of files: local paths and URIs of any file system that Beam knows."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit, urlunsplit

from apache_beam.io.filesystems import FileSystems

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError

# What stands for a secret in errors, logs and display data.
MASK = "***"

# Presigned URLs have a dozen spellings of what is secret, so the few parameters that never are go through.
_HARMLESS_PARAMETERS = {"endpoint", "generation", "host", "region", "version"}
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
            f"{argument}: no file system is known for {mask_uri(uri)!r}. Give a local path, file://, or a scheme that "
            "Apache Beam has a file system for; gs:// and s3:// need their extra, as in apache-beam[gcp] or [aws]."
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
        raise ScriptEnvironmentError(f"{mask_uri(uri)} cannot be read on this worker: {error}") from error


def mask_uri(uri: str) -> str:
    """The URI without user, password, fragment, and the values of query parameters that may be secret.

    Args:
      uri: `scheme://…`.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # no URI after all, such as an address with one bracket
        return uri[: uri.index("://") + 3] + MASK
    place = parts.netloc.rpartition("@")[2]
    place = f"{MASK}@{place}" if "@" in parts.netloc else place
    query = "&".join(map(_mask_parameter, parts.query.split("&"))) if parts.query else ""
    return urlunsplit((parts.scheme, place, parts.path, query, MASK if parts.fragment else ""))


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if not equals:
        return MASK  # a bare value
    return parameter if name.lower() in _HARMLESS_PARAMETERS else f"{name}={MASK}"

"""Where a URI's bytes come from: one source a kind of scheme, chosen here.

In comes a URI. Out goes an object that tells whether the file is there, and opens it at an offset. Protocols are the
libraries' business: requests for HTTP, boto3 for S3 and OSS, fsspec for HDFS, and Beam's file systems for the rest.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.errors import ArgumentError
from beam_tfscript.script.uris import mask_name, scheme_of

READ_BYTES = 1 << 20
# scheme -> the module that it needs, and the extra of this package that brings it.
_NEEDED = {
    "s3": ("boto3", "s3"),
    "oss": ("boto3", "oss"),
    "hdfs": ("fsspec", "hdfs"),
    "webhdfs": ("fsspec", "hdfs"),
}


class Missing(Exception):
    """There is no such file; that is certain."""


class Failed(Exception):
    """It cannot be had, and trying again will not help."""


class Unreachable(Exception):
    """It cannot be had now; trying again may help."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
      connect_s: for a connection to be made.
      stall_s: for the next byte.
      total_s: for the whole file; what is slower than that is taken for stuck.
      attempts: how many times in a row nothing at all may have come.
      backoff_s: what is waited before the second attempt, and twice as long before each further one.
    """

    connect_s: float = 10.0
    stall_s: float = 60.0
    total_s: float = 3600.0
    attempts: int = 5
    backoff_s: float = 0.5


class Opened(NamedTuple):
    """A file that is being read.

    Attributes:
      start: offset of the first byte of `chunks`; 0 where the server cannot begin in the middle.
      size: of the whole file, or None.
      version: differs when the content does; None if the server does not say.
      chunks: the bytes.
    """

    start: int
    size: int | None
    version: str | None
    chunks: Iterator[bytes]


class Source(Protocol):
    """A file of some server. Every method raises Missing, Failed or Unreachable."""

    def stat(self) -> str | None:
        """Its version, or None if the server does not say; without reading it."""

    def open(self, offset: int, version: str | None) -> Opened:
        """Opens it at `offset`, if it still has that version, and else at 0."""

    def close(self) -> None:
        """Gives connections back."""


def check_scheme(argument: str, uri: str) -> None:
    """Looks whether there is something here that reads such a URI.

    Raises:
      ArgumentError: no file system is known for the scheme, or its library is not installed.
    """
    scheme = scheme_of(uri)
    if scheme in ("http", "https", "res", "file", ""):
        return
    module, extra = _NEEDED.get(scheme, (None, None))
    if module is not None:
        if importlib.util.find_spec(module) is None:
            raise ArgumentError(
                f"{argument}: {mask_name(uri)!r} needs the package {module}, which is not installed here: "
                f"pip install 'beam-tfscript[{extra}]', here and on the workers."
            )
        return
    try:
        FileSystems.get_filesystem(uri)
    except ValueError as error:
        raise ArgumentError(
            f"{argument}: no file system is known for {mask_name(uri)!r}. Give a local path, or file://, res://, "
            "http(s)://, s3://, oss://, hdfs://, gs://, or another scheme that Apache Beam has a file system for; "
            "gs:// needs apache-beam[gcp]."
        ) from error


def open_source(uri: str, patience: Patience) -> Source:
    """The source of a URI that is not on this machine.

    Raises:
      ArgumentError: there is none for its scheme.
    """
    check_scheme("uri", uri)
    scheme = scheme_of(uri)
    if scheme in ("http", "https"):
        from beam_tfscript.script.web import WebSource

        return WebSource(uri, patience)
    if scheme in ("s3", "oss"):
        from beam_tfscript.script.object_store import ObjectSource

        return ObjectSource(uri, patience)
    if scheme in ("hdfs", "webhdfs"):
        from beam_tfscript.script.hadoop import HadoopSource

        return HadoopSource(uri, patience)
    return BeamSource(uri)


class BeamSource:
    """A file of one of Beam's file systems, which have their own ways to wait and to try again."""

    def __init__(self, uri: str):
        self._uri = uri

    def stat(self) -> str | None:
        """What Beam knows of a file's version is its time, which not every file system tells."""
        try:
            if not FileSystems.exists(self._uri):
                raise Missing("there is no such file")
            return str(FileSystems.last_updated(self._uri))
        except (BeamIOError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    def open(self, offset: int, version: str | None) -> Opened:
        """Opens it at its beginning."""
        return Opened(0, None, None, self._read())

    def close(self) -> None:
        """Nothing is kept."""

    def _read(self) -> Iterator[bytes]:
        try:
            # Beam would take .gz and the like apart, which here are archives.
            with FileSystems.open(self._uri, compression_type="uncompressed") as file:
                while chunk := file.read(READ_BYTES):
                    yield chunk
        except (BeamIOError, OSError, ValueError, RuntimeError) as error:
            raise Failed(f"{type(error).__name__}: {error}") from error

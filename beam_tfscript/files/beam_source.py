"""Source of files on Beam's file systems."""

from __future__ import annotations

from collections.abc import Iterator

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_tfscript.files.source import READ_BYTES, MissingFileError, Opened, PermanentFetchError, TransientFetchError


class BeamSource:
    """File of one of Beam's file systems, which have their own timeouts and retries."""

    def __init__(self, uri: str):
        self._uri = uri

    def stat(self) -> str | None:
        """Return the time of the file's last change, which not every file system has."""
        try:
            if not FileSystems.exists(self._uri):
                raise MissingFileError("there is no such file")
            return str(FileSystems.last_updated(self._uri))
        except (BeamIOError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
            raise TransientFetchError(f"{type(error).__name__}: {error}") from error

    def open(self, offset: int, version: str | None) -> Opened:
        """Open the file at its beginning."""
        return Opened(0, None, None, self._read())

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def _read(self) -> Iterator[bytes]:
        try:
            # By default, Beam would decompress a .gz file, which is an archive here.
            with FileSystems.open(self._uri, compression_type="uncompressed") as file:
                while chunk := file.read(READ_BYTES):
                    yield chunk
        except (BeamIOError, OSError, ValueError, RuntimeError) as error:
            raise PermanentFetchError(f"{type(error).__name__}: {error}") from error

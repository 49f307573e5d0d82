"""Beam's file system for `oss://`: objects of OSS, through its S3-compatible endpoint.

Beam's own code for S3 does the work: listing, ranges, multipart uploads, copies. Only the connection differs. Endpoint
and keys come from the environment: `OSS_ENDPOINT`, `OSS_ACCESS_KEY_ID`, `OSS_ACCESS_KEY_SECRET`, `OSS_SESSION_TOKEN`.
They never come from the pipeline's options, which are in the job. Beam finds this class once the module is loaded, also
on the workers.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import io
import logging
from collections.abc import Iterator
from typing import Any, BinaryIO

from apache_beam.io.aws import s3io
from apache_beam.io.aws.clients.s3 import boto3_client
from apache_beam.io.filesystem import BeamIOError, CompressedFile, CompressionTypes, FileMetadata, FileSystem
from apache_beam.io.filesystemio import UploaderStream
from apache_beam.options.pipeline_options import SetupOptions
from apache_beam.pipeline import Pipeline

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.source import PermanentFetchError, Timeouts

__all__ = ["OSSFileSystem", "load_on_workers"]

_SCHEME = "oss"
_OCTETS = "application/octet-stream"
_WRITE_BUFFER_BYTES = 128 << 10


def load_on_workers(pipeline: Pipeline) -> None:
    """Have the workers load this module when they start: a stage of Beam's own transforms would not load it."""
    options = pipeline.options.view_as(SetupOptions)
    plugins = options.beam_plugins or []
    if __name__ not in plugins:
        options.beam_plugins = [*plugins, __name__]


class OSSFileSystem(FileSystem):
    """Objects of OSS as files; there are no directories.

    Raises:
      ArgumentError: boto3 is not installed.
    """

    CHUNK_SIZE = s3io.MAX_BATCH_OPERATION_SIZE

    def __init__(self, pipeline_options: Any):
        super().__init__(pipeline_options)
        if importlib.util.find_spec("boto3") is None:
            raise ArgumentError(
                "oss:// needs the package boto3, which is not installed here: pip install 'beam-tfscript[oss]', here "
                "and on the workers."
            )

    @classmethod
    def scheme(cls) -> str:
        """Return the scheme of the URIs."""
        return _SCHEME

    def join(self, basepath: str, *paths: str) -> str:
        """Return the path of an object below a path."""
        for path in paths:
            basepath = basepath.rstrip("/") + "/" + path.lstrip("/")
        return basepath

    def split(self, path: str) -> tuple[str, str]:
        """Return (the path before the last slash, the name after it)."""
        prefix = len(f"{_SCHEME}://")
        head, slash, tail = path[prefix:].rpartition("/")
        return (path[:prefix] + head, tail) if slash else (path, "")

    def mkdirs(self, path: str) -> None:
        """Do nothing: there are no directories."""

    def has_dirs(self) -> bool:
        """Return False."""
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        with _named("List", dir_or_prefix):
            for path, (size, updated) in _store().list_files(_s3(dir_or_prefix), with_metadata=True):
                yield FileMetadata(_oss(path), size, updated)

    def create(
        self, path: str, mime_type: str = _OCTETS, compression_type: str = CompressionTypes.AUTO
    ) -> BinaryIO | CompressedFile:
        """Return a new file, open for writing; the object exists once the file is closed."""
        kind = FileSystem._get_compression_type(path, compression_type)
        with _named("Create", path):
            uploader = _Uploader(_store().client, _s3(path), CompressionTypes.mime_type(kind, mime_type))
        raw = io.BufferedWriter(UploaderStream(uploader, mode="wb"), buffer_size=_WRITE_BUFFER_BYTES)
        return raw if kind == CompressionTypes.UNCOMPRESSED else CompressedFile(raw, compression_type=kind)

    def open(
        self, path: str, mime_type: str = _OCTETS, compression_type: str = CompressionTypes.AUTO
    ) -> BinaryIO | CompressedFile:
        """Return a file, open for reading."""
        kind = FileSystem._get_compression_type(path, compression_type)
        with _named("Open", path):
            raw = _store().open(_s3(path), "rb", mime_type=CompressionTypes.mime_type(kind, mime_type))
        return raw if kind == CompressionTypes.UNCOMPRESSED else CompressedFile(raw, compression_type=kind)

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        """Copy files within the store.

        Raises:
          BeamIOError: a file was not copied; the error has the failure of each.
        """
        pairs = _pairs(source_file_names, destination_file_names)
        _check_all("Copy", {_oss(source): error for source, _, error in _store().copy_paths(pairs)})

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        """Copy files within the store, and delete the originals; raises as `copy` does."""
        pairs = _pairs(source_file_names, destination_file_names)
        _check_all("Rename", {_oss(source): error for source, _, error in _store().rename_files(pairs)})

    def exists(self, path: str) -> bool:
        """Return True if there is an object of this name."""
        with _named("Exists", path):
            return bool(_store().exists(_s3(path)))

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        with _named("Size", path):
            return int(_store().size(_s3(path)))

    def last_updated(self, path: str) -> float:
        """Return the time of a file's last change, in seconds since 1970-01-01 UTC."""
        with _named("Last updated", path):
            return float(_store().last_updated(_s3(path)))

    def checksum(self, path: str) -> str:
        """Return the ETag of a file."""
        with _named("Checksum", path):
            return str(_store().checksum(_s3(path)))

    def metadata(self, path: str) -> FileMetadata:
        """Return size and time of a file."""
        with _named("Metadata", path):
            found = _store()._status(_s3(path))
            return FileMetadata(path, found["size"], found["last_updated"])

    def delete(self, paths: list[str]) -> None:
        """Delete files, and all files below paths that end with a slash.

        Raises:
          BeamIOError: a file was not deleted; the error has the failure of each.
        """
        failed = _store().delete_paths([_s3(path) for path in paths])
        _check_all("Delete", {_oss(path): error for path, error in failed.items()})


class _Client(boto3_client.Client):
    """Beam's client with a connection to OSS; each open file has one, as it keeps its place in a stream."""

    def __init__(self) -> None:
        from beam_tfscript.files.object_source import find_address

        try:
            # Neither bucket nor key matter: endpoint and keys are those of the environment.
            address = find_address(f"{_SCHEME}://bucket/key")
        except PermanentFetchError as error:
            raise BeamIOError(f"{_SCHEME}:// cannot be used: {error}") from None
        self.client = _connect(address)
        self._download_request = None
        self._download_stream = None
        self._download_pos = 0


@functools.lru_cache(maxsize=8)
def _connect(address: Any) -> Any:
    """Return boto3's client, which threads may share; a request is tried as often as a download's."""
    from beam_tfscript.files.object_source import open_client

    # Its lines at DEBUG have signatures and temporary tokens.
    logger = logging.getLogger("botocore")
    logger.setLevel(max(logger.getEffectiveLevel(), logging.INFO))
    timeouts = Timeouts()
    return open_client(address, timeouts, is_oss=True, attempts=timeouts.attempts)[0]


class _Uploader(s3io.S3Uploader):
    """Beam's multipart upload, also of files without content."""

    def finish(self) -> None:
        """Complete the upload, which needs at least one part."""
        if not self.parts and not self.buffer and self.last_error is None:
            self._write_to_s3(b"")
        super().finish()


def _store() -> s3io.S3IO:
    return s3io.S3IO(client=_Client())


def _s3(path: str) -> str:
    """Return a path as Beam's code for S3 takes it."""
    if not path.startswith(f"{_SCHEME}://"):
        raise ValueError(f"{path!r} must begin with {_SCHEME}://.")
    return "s3" + path[len(_SCHEME) :]


def _oss(path: str) -> str:
    return _SCHEME + path[len("s3") :]


def _pairs(sources: list[str], targets: list[str]) -> list[tuple[str, str]]:
    if len(sources) != len(targets):
        raise BeamIOError(f"{len(sources)} files cannot become {len(targets)} files.")
    return [(_s3(source), _s3(target)) for source, target in zip(sources, targets)]


def _check_all(action: str, failures: dict[str, Any]) -> None:
    failures = {path: error for path, error in failures.items() if error is not None}
    if failures:
        raise BeamIOError(f"{action} failed", failures)


@contextlib.contextmanager
def _named(action: str, path: str) -> Iterator[None]:
    """Raise errors of the block with the file's name: FileNotFoundError, or BeamIOError."""
    try:
        yield
    except BeamIOError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, f"Not found: {path}") from None
    except Exception as error:
        raise BeamIOError(f"{action} failed", {path: error}) from error

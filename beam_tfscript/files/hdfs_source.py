"""Source of files on HDFS, read through the namenode's web interface, WebHDFS, by fsspec.

Input: `hdfs://namenode:port/path`. Output: the file's bytes, from any offset. No Java and no Hadoop client is needed.
The port is the namenode's HTTP port.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
from fsspec.implementations.webhdfs import WebHDFS
from requests.adapters import HTTPAdapter

from beam_tfscript.files.source import MissingFileError, Opened, PermanentFetchError, Timeouts, TransientFetchError
from beam_tfscript.files.uris import parameters_of

_DEFAULT_HTTP_PORT = 9870
# Bytes per request. Each block costs one request to the namenode and one to a datanode.
_BLOCK_BYTES = 8 << 20
# Part of Hadoop's answer to an HTTP request on the port of its other protocol.
_WRONG_PORT = "Hadoop IPC port"


class HdfsSource:
    """File on HDFS."""

    def __init__(self, uri: str, timeouts: Timeouts):
        parts, given = urlsplit(uri), parameters_of(uri)
        if not parts.hostname:
            raise PermanentFetchError("it does not name the namenode: give hdfs://namenode:9870/path")
        self._path = parts.path
        with _translated():
            self._files = WebHDFS(
                parts.hostname,
                port=int(given.get("http_port") or parts.port or _DEFAULT_HTTP_PORT),
                user=given.get("user") or parts.username or os.environ.get("HADOOP_USER_NAME"),
                skip_instance_cache=True,
            )
        for scheme in ("http://", "https://"):
            self._files.session.mount(scheme, _Bounded(timeouts))

    def stat(self) -> str | None:
        """Return the file's size and time."""
        return self._info()[1]

    def open(self, offset: int, version: str | None) -> Opened:
        """Open the file at `offset` if it is still the same, else at 0."""
        size, found = self._info()
        start = offset if found == version and offset <= size else 0
        return Opened(start, size, found, self._read(start, size))

    def close(self) -> None:
        """Close the connections."""
        self._files.session.close()

    def _info(self) -> tuple[int, str]:
        with _translated():
            info = self._files.info(self._path)
        if info["type"] != "file":
            raise PermanentFetchError("it is a directory: name a file, such as an archive of it")
        return info["size"], f"{info['size']}-{info['modificationTime']}"

    def _read(self, start: int, size: int) -> Iterator[bytes]:
        with _translated(), self._files.open(self._path, block_size=_BLOCK_BYTES, size=size) as file:
            file.seek(start)
            while chunk := file.read(_BLOCK_BYTES):
                yield chunk


class _Bounded(HTTPAdapter):
    """Adapter that gives every request a timeout; fsspec gives none."""

    def __init__(self, timeouts: Timeouts):
        super().__init__()
        self._timeout = (timeouts.connect_s, timeouts.stall_s)

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a request."""
        kwargs["timeout"] = self._timeout
        return super().send(request, *args, **kwargs)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise the libraries' errors as errors of `source.py`."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(f"the namenode says: {error}") from None
    except PermissionError as error:
        raise PermanentFetchError(f"the namenode says: {error}") from None
    except requests.HTTPError as error:
        if error.response is not None and _WRONG_PORT in error.response.text:
            raise PermanentFetchError(
                "that is the port of Hadoop's own protocol: give the port of WebHDFS, as in hdfs://namenode:9870/path, "
                "or by the parameter http_port=9870"
            ) from None
        raise TransientFetchError(str(error)) from None
    except (requests.RequestException, OSError, RuntimeError) as error:
        raise TransientFetchError(f"{type(error).__name__}: {error}") from None
    except ValueError as error:
        raise PermanentFetchError(str(error)) from None

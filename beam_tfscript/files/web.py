"""Reads files of web servers, by requests.

In comes an `http(s)://` URI. Out go its bytes, after redirects, from an offset where the server can do that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import requests
import urllib3

from beam_tfscript.files.source import (
    READ_BYTES,
    MissingFileError,
    Opened,
    PermanentFetchError,
    Timeouts,
    TransientFetchError,
)

_GONE = (404, 410)
_BUSY = (408, 425, 429)
# Servers that do not know HEAD, or an address that is signed for GET alone.
_NOT_ASKED = (400, 401, 403, 405, 501)


class WebSource:
    """A file of a web server."""

    def __init__(self, uri: str, patience: Timeouts):
        self._uri = uri
        self._session = requests.Session()
        self._timeout = (patience.connect_s, patience.stall_s)

    def stat(self) -> str | None:
        """The version by HEAD."""
        with _translated():
            response = self._session.head(self._uri, timeout=self._timeout, allow_redirects=True)
        if response.status_code in _NOT_ASKED:
            return None
        _check_status(response)
        return _version(response)

    def open(self, offset: int, version: str | None) -> Opened:
        """Asks for what is left if the file is still the same."""
        headers = {"Accept-Encoding": "identity"}
        if offset and version:
            headers |= {"Range": f"bytes={offset}-", "If-Range": version}
        with _translated():
            response = self._session.get(self._uri, timeout=self._timeout, headers=headers, stream=True)
        try:
            _check_status(response)
            start, size = _extent(response, offset)
        except (MissingFileError, PermanentFetchError, TransientFetchError):
            response.close()
            raise
        is_encoded = _is_encoded(response)
        chunks = _read(response, is_encoded)
        return Opened(start, None, None, chunks) if is_encoded else Opened(start, size, _version(response), chunks)

    def close(self) -> None:
        """Closes its connections."""
        self._session.close()


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    answer = f"the server answered {status} {response.reason or ''}".rstrip()
    if status in _GONE:
        raise MissingFileError(answer)
    if status >= 500 or status in _BUSY or status == 416:  # what is asked for is behind the end of a changed file
        raise TransientFetchError(answer)
    if status not in (200, 206):
        raise PermanentFetchError(answer)


def _extent(response: requests.Response, offset: int) -> tuple[int, int | None]:
    """Where the answer begins in the file, and how large that is."""
    if response.status_code == 206:
        unit, _, extent = response.headers.get("Content-Range", "").partition(" ")
        begin, _, size = extent.partition("/")
        if unit != "bytes" or begin.partition("-")[0] != str(offset):
            raise PermanentFetchError(f"the server answered another range than the one from byte {offset} on")
        return offset, int(size) if size.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _version(response: requests.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    # A weak tag does not promise the same bytes.
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _is_encoded(response: requests.Response) -> bool:
    """Whether the server compressed it, though asked not to; of an archive that only says what the archive is."""
    path = response.url.partition("?")[0]
    return response.headers.get("Content-Encoding", "") in ("gzip", "deflate") and not path.endswith(("gz", "tgz"))


def _read(response: requests.Response, is_encoded: bool) -> Iterator[bytes]:
    raw = response.raw
    # One that fills its buffer before it returns would hide a server that sends a byte a minute.
    read = getattr(raw, "read1", raw.read)
    with contextlib.closing(response), _translated():
        if is_encoded:
            yield from response.iter_content(READ_BYTES)
        else:
            while chunk := read(READ_BYTES, decode_content=False):
                yield chunk


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The libraries' errors as ours; their own text has the address that was redirected to, with all that signs it."""
    try:
        yield
    except (requests.TooManyRedirects, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise PermanentFetchError(f"{type(error).__name__}: {error}") from None
    except requests.exceptions.SSLError as error:
        raise PermanentFetchError(f"the server's certificate is not accepted: {_reason(error)}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientFetchError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """The innermost reason, which is about the connection and not the address."""
    while True:
        inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, Exception)), None)
        if isinstance(error, urllib3.exceptions.IncompleteRead):
            return f"the connection ended {error.expected} bytes before the end"
        if not isinstance(inner, Exception):
            return f"{type(error).__name__}: {error}"
        error = inner

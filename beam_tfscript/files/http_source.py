"""Source of files on web servers, read by requests.

Input: an `http(s)://` URI. Output: the file's bytes, after redirects, from an offset if the server supports ranges.
fsspec's HTTPFileSystem is not used: it sends no `If-Range`, so that a resumed download could mix two versions of a
file, and its errors hold signed addresses.
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
# Answers to HEAD of servers without it, and for an address that is signed for GET only.
_HEAD_REFUSED = (400, 401, 403, 405, 501)


class WebSource:
    """File on a web server."""

    def __init__(self, uri: str, timeouts: Timeouts):
        self._uri = uri
        self._session = requests.Session()
        self._timeout = (timeouts.connect_s, timeouts.stall_s)

    def stat(self) -> str | None:
        """Return the version by a HEAD request; None if the server refuses HEAD or sends no version."""
        with _translated():
            response = self._session.head(self._uri, timeout=self._timeout, allow_redirects=True)
        if response.status_code in _HEAD_REFUSED:
            return None
        _check_status(response)
        return _version(response)

    def open(self, offset: int, version: str | None) -> Opened:
        """Request the bytes from `offset` on if the file is still the same, else all of them."""
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
        """Close the connections."""
        self._session.close()


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    answer = f"the server answered {status} {response.reason or ''}".rstrip()
    if status in _GONE:
        raise MissingFileError(answer)
    if status >= 500 or status in _BUSY or status == 416:  # 416: the offset is beyond the end of a changed file
        raise TransientFetchError(answer)
    if status not in (200, 206):
        raise PermanentFetchError(answer)


def _extent(response: requests.Response, offset: int) -> tuple[int, int | None]:
    """Return the offset of the response's first byte, and the file's size or None."""
    if response.status_code == 206:
        unit, _, extent = response.headers.get("Content-Range", "").partition(" ")
        begin, _, size = extent.partition("/")
        if unit != "bytes" or begin.partition("-")[0] != str(offset):
            raise PermanentFetchError(f"the server did not answer with the requested range, from byte {offset} on")
        return offset, int(size) if size.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _version(response: requests.Response) -> str | None:
    tag = response.headers.get("ETag", "")
    # A weak tag does not promise the same bytes.
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _is_encoded(response: requests.Response) -> bool:
    """Return True if the server compressed the file, although the request forbids it.

    Some servers send an archive such as `a.tar.gz` with `Content-Encoding: gzip`, although they add no compression.
    """
    path = response.url.partition("?")[0]
    return response.headers.get("Content-Encoding", "") in ("gzip", "deflate") and not path.endswith(("gz", "tgz"))


def _read(response: requests.Response, is_encoded: bool) -> Iterator[bytes]:
    raw = response.raw
    # `read` returns only with a full buffer, and would hide a server that sends one byte per minute.
    read = getattr(raw, "read1", raw.read)
    with contextlib.closing(response), _translated():
        if is_encoded:
            yield from response.iter_content(READ_BYTES)
        else:
            while chunk := read(READ_BYTES, decode_content=False):
                yield chunk


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise the libraries' errors as errors of `source.py`, without their text: it may hold a signed address."""
    try:
        yield
    except (requests.TooManyRedirects, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise PermanentFetchError(f"{type(error).__name__}: {error}") from None
    except requests.exceptions.SSLError as error:
        raise PermanentFetchError(f"the server's certificate is not accepted: {_reason(error)}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientFetchError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """Return the text of the innermost cause, which is about the connection and not the address."""
    while True:
        inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, Exception)), None)
        if isinstance(error, urllib3.exceptions.IncompleteRead):
            return f"the connection ended {error.expected} bytes before the end"
        if not isinstance(inner, Exception):
            return f"{type(error).__name__}: {error}"
        error = inner

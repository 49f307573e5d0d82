"""Download of a file by its URI, and the check while the pipeline is built that the file exists.

Input: a URI of any scheme. Output: the complete file at the given path, its hash checked; its content is never in
memory as a whole. A download that is cut off is retried, from the byte where it ended if the server supports ranges.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError, TFScriptError
from beam_tfscript.files import package_data, uris
from beam_tfscript.files.open_source import open_source
from beam_tfscript.files.source import MissingFileError, PermanentFetchError, Source, Timeouts, TransientFetchError

__all__ = ["Timeouts", "check_exists", "fetch", "hash_file", "version_of"]

_LOGGER = logging.getLogger("beam_tfscript.script")

_HASH_BYTES = 1 << 20
_MAX_BACKOFF_S = 30.0
# Short, because perhaps only the workers can reach the server, and the pipeline's author waits.
_CHECK_TIMEOUTS = Timeouts(connect_s=4.0, stall_s=4.0, total_s=8.0, attempts=1)
_CHECK_S = 8.0
# Loggers that show addresses, headers and signatures at the level DEBUG.
_LOGGERS_WITH_SECRETS = ("urllib3", "requests", "boto3", "botocore", "s3transfer", "fsspec", "webhdfs")

_quiet_lock = threading.Lock()
_levels: dict[str, int] = {}
_fetching = 0


def fetch(uri: str, target_path: str, *, timeouts: Timeouts | None = None) -> str:
    """Write a URI's content to a file, which is complete or does not exist.

    Args:
      uri: a plain path, or `file://`, `res://`, `http(s)://`, `s3://`, `oss://`, `hdfs://`, `gs://`, or another scheme
        that Beam has a file system for. With `#sha256=…` at its end, the content's hash is checked.
      target_path: path of the file; its directory exists.
      timeouts: timeouts and retries; None for the default ones.

    Returns:
      The content's SHA-256 hash, in hexadecimal.

    Raises:
      ScriptEnvironmentError: the file does not exist, cannot be read, or has another hash. Secrets are masked.
    """
    timeouts = timeouts or Timeouts()
    partial = f"{target_path}.part-{os.getpid()}-{threading.get_ident()}"
    try:
        plain, expected = uris.split_sha256("uri", uri)
        with _quiet_libraries(), open(partial, "wb+") as file:
            _copy(plain, file, timeouts)
            found = _digest(file)
        if expected is not None and found != expected:
            raise PermanentFetchError(f"its content has the SHA-256 hash {found}, which is not the one in the URI")
        os.replace(partial, target_path)
        return found
    except (MissingFileError, PermanentFetchError, TransientFetchError, ArgumentError, OSError) as error:
        # Without a cause, whose text may repeat the URI's secrets.
        raise ScriptEnvironmentError(
            f"{uris.mask_name(uri)} cannot be fetched: {uris.scrub(str(error), uri)}"
        ) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def check_exists(argument: str, uri: str) -> None:
    """Check that a remote file exists; a server that cannot be reached from here is no error.

    Args:
      argument: the transform's argument, for the error.
      uri: the file's URI.

    Raises:
      ArgumentError: the server says that there is no such file, or the URI cannot be used.
    """
    uri, _ = uris.split_sha256(argument, uri)
    result: list[Exception | None] = []
    # Some libraries wait without a limit for a name server or for credentials. Then the check's thread is abandoned,
    # and errors show on the worker.
    thread = threading.Thread(target=lambda: result.append(_find_error(uri)), name="check-uri", daemon=True)
    thread.start()
    thread.join(_CHECK_S)
    error = result[0] if result else None
    if isinstance(error, MissingFileError):
        raise ArgumentError(f"{argument}: there is no {uris.mask_name(uri)!r}: {uris.scrub(str(error), uri)}") from None
    if isinstance(error, TFScriptError):
        raise error
    if error is not None or not result:
        reason = "no answer in time" if error is None else uris.scrub(str(error), uri)
        _LOGGER.info("%s: cannot check from here that %s exists: %s", argument, uris.mask_name(uri), reason)


def version_of(uri: str, *, timeouts: Timeouts | None = None) -> str | None:
    """Return the version of a remote file's content, such as its ETag; None if the server has none.

    Raises:
      ScriptEnvironmentError: the file does not exist, or cannot be reached.
    """
    timeouts = timeouts or Timeouts()
    try:
        with _quiet_libraries(), contextlib.closing(open_source(uri, timeouts)) as source:
            return _try_again(source.stat, timeouts, time.monotonic() + timeouts.total_s)
    except (MissingFileError, PermanentFetchError, TransientFetchError, ArgumentError) as error:
        raise ScriptEnvironmentError(
            f"{uris.mask_name(uri)} cannot be fetched: {uris.scrub(str(error), uri)}"
        ) from None


def hash_file(path: str) -> str:
    """Return the SHA-256 hash of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return _digest(file)


def _copy(uri: str, file: BinaryIO, timeouts: Timeouts) -> None:
    path = uris.local_path(uri)
    if path is None and uris.scheme_of(uri) == "res":
        path = package_data.find_resource("uri", uri)
    if path is not None:
        with open(path, "rb") as source:
            shutil.copyfileobj(source, file, _HASH_BYTES)
        return
    with contextlib.closing(open_source(uri, timeouts)) as remote:
        _download(remote, file, timeouts)


def _download(source: Source, file: BinaryIO, timeouts: Timeouts) -> None:
    """Copy a source to a file; after an interruption, continue where it was cut off."""
    deadline = time.monotonic() + timeouts.total_s
    version: str | None = None

    def read_rest() -> None:
        nonlocal version
        opened = source.open(file.tell(), version)
        file.seek(opened.start)
        file.truncate()
        version = opened.version
        with contextlib.closing(opened.chunks) as chunks:  # type: ignore[type-var]
            for chunk in chunks:
                file.write(chunk)
                if time.monotonic() > deadline:
                    raise PermanentFetchError(
                        f"it was not complete after {timeouts.total_s:g} s, with {file.tell()} bytes"
                    )
        if opened.size is not None and file.tell() != opened.size:
            raise TransientFetchError(f"the connection ended after {file.tell()} of {opened.size} bytes")

    _try_again(read_rest, timeouts, deadline, progress=file.tell)


def _try_again(
    act: Callable, timeouts: Timeouts, deadline: float, *, progress: Callable[[], int] = lambda: 0
) -> str | None:
    """Call a function, and retry it after a TransientFetchError.

    Args:
      act: the function.
      timeouts: gives the number of attempts and the time between them.
      deadline: time by `time.monotonic` after which there is no retry.
      progress: returns the number of bytes so far; when it has grown, the attempts are counted from 1 again.

    Returns:
      The function's result.
    """
    attempt, reached = 0, progress()
    while True:
        try:
            return act()
        except TransientFetchError:
            if progress() > reached:
                attempt, reached = 0, progress()
            attempt += 1
            wait_s = min(timeouts.backoff_s * 2 ** (attempt - 1), _MAX_BACKOFF_S)
            if attempt >= timeouts.attempts or time.monotonic() + wait_s > deadline:
                raise
            _LOGGER.info("retrying a server in %.1f s, attempt %d of %d", wait_s, attempt + 1, timeouts.attempts)
            time.sleep(wait_s)


def _find_error(uri: str) -> Exception | None:
    """Return the error of asking for a file's version; None where the file exists."""
    try:
        with _quiet_libraries(), contextlib.closing(open_source(uri, _CHECK_TIMEOUTS)) as source:
            source.stat()
        return None
    except (MissingFileError, PermanentFetchError, TransientFetchError, TFScriptError) as error:
        return error


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(_HASH_BYTES):
        digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the libraries' lines below WARNING out of the log while any thread fetches."""
    global _fetching
    with _quiet_lock:
        _fetching += 1
        if _fetching == 1:
            for name in _LOGGERS_WITH_SECRETS:
                logger = logging.getLogger(name)
                _levels[name] = logger.level
                logger.setLevel(max(logger.getEffectiveLevel(), logging.WARNING))
    try:
        yield
    finally:
        with _quiet_lock:
            _fetching -= 1
            if not _fetching:
                for name, level in _levels.items():
                    logging.getLogger(name).setLevel(level)

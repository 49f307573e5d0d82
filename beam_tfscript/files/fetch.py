"""Fetches a file by its URI, or says while the pipeline is built that there is none.

In comes a URI of any scheme. Out goes the file, whole and checked, at the path that was asked for; it is never whole
in memory. What is cut off is tried again, from where it ended if the server can do that.
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
from beam_tfscript.files import packages, uris
from beam_tfscript.files.source import MissingFileError, PermanentFetchError, Source, Timeouts, TransientFetchError
from beam_tfscript.files.sources import open_source

__all__ = ["Timeouts", "check_exists", "fetch", "hash_file", "version_of"]

_LOGGER = logging.getLogger("beam_tfscript.script")

_HASH_BYTES = 1 << 20
_MAX_BACKOFF_S = 30.0
# While the pipeline is built nobody waits long for a server that only the workers may be able to reach.
_CHECK_PATIENCE = Timeouts(connect_s=4.0, stall_s=4.0, total_s=8.0, attempts=1)
_CHECK_S = 8.0
# They log addresses, headers and signatures where a program's log level is DEBUG.
_TALKATIVE = ("urllib3", "requests", "boto3", "botocore", "s3transfer", "fsspec", "webhdfs")

_quiet_lock = threading.Lock()
_levels: dict[str, int] = {}
_fetching = 0


def fetch(uri: str, target_path: str, *, patience: Timeouts | None = None) -> str:
    """Writes what a URI names to a file, which is there whole or not at all.

    Args:
      uri: a plain path, or `file://`, `res://`, `http(s)://`, `s3://`, `oss://`, `hdfs://`, `gs://`, or what else Beam
        has a file system for; with `#sha256=…` behind it the content is checked.
      target_path: where to; its directory exists.
      patience: how long to wait for a server.

    Returns:
      The content's SHA-256 hash, in hexadecimal.

    Raises:
      ScriptEnvironmentError: it is not there, cannot be read, or is not what its hash says. Secrets are masked.
    """
    patience = patience or Timeouts()
    partial = f"{target_path}.part-{os.getpid()}-{threading.get_ident()}"
    try:
        plain, expected = uris.split_sha256("uri", uri)
        with _quiet_libraries(), open(partial, "wb+") as file:
            _copy(plain, file, patience)
            found = _digest(file)
        if expected is not None and found != expected:
            raise PermanentFetchError(
                f"its content has the SHA-256 hash {found}, which is another file than was asked for"
            )
        os.replace(partial, target_path)
        return found
    except (MissingFileError, PermanentFetchError, TransientFetchError, ArgumentError, OSError) as error:
        # No cause is kept: its text may repeat the URI's secrets.
        raise ScriptEnvironmentError(
            f"{uris.mask_name(uri)} cannot be fetched: {uris.scrub(str(error), uri)}"
        ) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def check_exists(argument: str, uri: str) -> None:
    """Looks whether a remote file is there; a server that cannot be reached from here is no error.

    Args:
      argument: the transform's argument that it was given as, for the error.

    Raises:
      ArgumentError: its server says that there is no such file, or the URI cannot be used.
    """
    uri, _ = uris.split_sha256(argument, uri)
    result: list[Exception | None] = []
    # Some of the libraries wait without bound, for names to be resolved or for credentials. Then the check is left to
    # itself, and the worker will say what is wrong.
    thread = threading.Thread(target=lambda: result.append(_look_for(uri)), name="check-uri", daemon=True)
    thread.start()
    thread.join(_CHECK_S)
    error = result[0] if result else None
    if isinstance(error, MissingFileError):
        raise ArgumentError(f"{argument}: there is no {uris.mask_name(uri)!r}: {uris.scrub(str(error), uri)}") from None
    if isinstance(error, TFScriptError):
        raise error
    if error is not None or not result:
        reason = "no answer in time" if error is None else uris.scrub(str(error), uri)
        _LOGGER.info("%s: whether %s is there is not known here: %s", argument, uris.mask_name(uri), reason)


def version_of(uri: str, *, patience: Timeouts | None = None) -> str | None:
    """What differs when a remote file's content does, such as its ETag; None if its server does not say.

    Raises:
      ScriptEnvironmentError: it is not there, or cannot be reached.
    """
    patience = patience or Timeouts()
    try:
        with _quiet_libraries(), contextlib.closing(open_source(uri, patience)) as source:
            return _try_again(source.stat, patience, time.monotonic() + patience.total_s)
    except (MissingFileError, PermanentFetchError, TransientFetchError, ArgumentError) as error:
        raise ScriptEnvironmentError(
            f"{uris.mask_name(uri)} cannot be fetched: {uris.scrub(str(error), uri)}"
        ) from None


def hash_file(path: str) -> str:
    """The SHA-256 hash of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return _digest(file)


def _copy(uri: str, file: BinaryIO, patience: Timeouts) -> None:
    path = uris.local_path(uri)
    if path is None and uris.scheme_of(uri) == "res":
        path = packages.find_resource("uri", uri)
    if path is not None:
        with open(path, "rb") as source:
            shutil.copyfileobj(source, file, _HASH_BYTES)
        return
    with contextlib.closing(open_source(uri, patience)) as remote:
        _download(remote, file, patience)


def _download(source: Source, file: BinaryIO, patience: Timeouts) -> None:
    """Copies a source to a file, on from where it was cut off."""
    deadline = time.monotonic() + patience.total_s
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
                        f"it was not complete after {patience.total_s:g} s, with {file.tell()} bytes"
                    )
        if opened.size is not None and file.tell() != opened.size:
            raise TransientFetchError(f"the connection ended after {file.tell()} of {opened.size} bytes")

    _try_again(read_rest, patience, deadline, progress=file.tell)


def _try_again(
    act: Callable, patience: Timeouts, deadline: float, *, progress: Callable[[], int] = lambda: 0
) -> str | None:
    """Call `act`, again after a TransientFetchError while something comes or attempts are left; return its result."""
    attempt, reached = 0, progress()
    while True:
        try:
            return act()
        except TransientFetchError:
            if progress() > reached:
                attempt, reached = 0, progress()
            attempt += 1
            wait_s = min(patience.backoff_s * 2 ** (attempt - 1), _MAX_BACKOFF_S)
            if attempt >= patience.attempts or time.monotonic() + wait_s > deadline:
                raise
            _LOGGER.info("a server is asked again in %.1f s, attempt %d of %d", wait_s, attempt + 1, patience.attempts)
            time.sleep(wait_s)


def _look_for(uri: str) -> Exception | None:
    try:
        with _quiet_libraries(), contextlib.closing(open_source(uri, _CHECK_PATIENCE)) as source:
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
    """Keeps what the libraries say at DEBUG out of the log while any thread fetches."""
    global _fetching
    with _quiet_lock:
        _fetching += 1
        if _fetching == 1:
            for name in _TALKATIVE:
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

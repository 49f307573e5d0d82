"""Connections to MaxCompute: opened and closed, with retries, and with errors that hold no credentials.

Libraries' errors come in. Errors of this package go out, which say what failed and what to do.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import requests
import urllib3

from beam_tfscript.errors import TableError, TFScriptError
from beam_tfscript.runtime.maxcompute import ConnectionSettingsMissing, connect, mask_credentials

__all__ = ["ATTEMPTS", "connected", "is_refused", "is_transient", "retry", "translated", "wait"]

# Attempts at one request, and the wait before the second one, which doubles before each further one.
ATTEMPTS = 5
BACKOFF_S = 0.5
# Longest wait between two questions for the status of a session.
_MAX_WAIT_S = 5.0
# Time for a session to become ready, or to be committed.
READY_S = 1800.0

_LOGGER = logging.getLogger(__name__)
_NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError)
_BUSY = (408, 429)
# Answers of a project without a part of the interface: no right to it, no such address, no such method.
_ABSENT = (403, 404, 405, 501)

T = TypeVar("T")


@contextlib.contextmanager
def connected(project: str, error: type[TFScriptError] = TableError) -> Iterator[Any]:
    """Connect for the block, as `odps.ODPS`, by the credentials in the environment.

    Args:
      project: name of the default project.
      error: class of the errors raised: `ArgumentError` while the pipeline is built.

    Raises:
      TFScriptError: of class `error`: there are no credentials, or no pyodps.
    """
    try:
        odps = connect(project)
    except ConnectionSettingsMissing as missing:
        raise error(str(missing)) from None
    try:
        yield odps
    finally:
        # The idle HTTP connections of this thread.
        odps.rest.session.close()


@contextlib.contextmanager
def translated(action: str, error: type[TFScriptError] = TableError) -> Iterator[None]:
    """Raise the libraries' errors of the block as errors of this package.

    Args:
      action: the action that fails, such as "the table a.b cannot be read".
      error: class of the errors raised.
    """
    from odps.errors import BaseODPSError

    try:
        yield
    except TFScriptError:
        raise
    except (BaseODPSError, *_NETWORK_ERRORS) as cause:
        # Not as the cause: its message and its frames hold the request with its signature.
        raise error(f"{action}: {explain(cause)}") from None


def explain(error: BaseException) -> str:
    """Return the message of a library's error without credentials, with the next step if that is known."""
    from odps import errors

    text = error.args[0] if isinstance(error, errors.BaseODPSError) and error.args else str(error)
    text = mask_credentials(" ".join(str(text).split())) or type(error).__name__
    if isinstance(error, errors.BaseODPSError):
        details = [str(value) for value in (error.code, error.request_id and f"request {error.request_id}") if value]
        text += f" ({mask_credentials(', '.join(details))})" if details else ""
    status = getattr(error, "status_code", None)
    if status == 401 or isinstance(error, (errors.AuthorizationRequired, errors.SignatureNotMatch)):
        return f"MaxCompute refuses the credentials of the environment: {text}"
    if status == 403 or isinstance(error, errors.NoPermission):
        return f"the account of the environment may not do this: {text}"
    if isinstance(error, errors.BaseODPSError):
        return text
    return f"MaxCompute does not answer at the endpoint: {type(error).__name__}: {text}"


def is_refused(error: BaseException) -> bool:
    """Return True if the service does not offer a part of its interface to this account or project."""
    from odps import errors

    if isinstance(error, (errors.NoSuchTable, errors.NoSuchPartition, errors.NoSuchProject)):
        return False
    if isinstance(error, errors.BaseODPSError):
        return error.status_code in _ABSENT or isinstance(error, (errors.NoPermission, errors.MethodNotAllowed))
    return False


def is_transient(error: BaseException) -> bool:
    """Return True if a retry may succeed."""
    from odps import errors

    if isinstance(error, errors.BaseODPSError):
        status = error.status_code
        if status is not None:
            return status in _BUSY or status >= 500 and status != 501
        return isinstance(error, (errors.InternalServerError, errors.ChecksumError, errors.StreamTruncatedException))
    return isinstance(error, _NETWORK_ERRORS)


def retry(action: Callable[[], T], name: str) -> T:
    """Call a function until it succeeds, at most `ATTEMPTS` times.

    Args:
      action: the call; a second call must do no harm if the first one has succeeded.
      name: name of the action in the log.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return action()
        except Exception as error:
            if not is_transient(error):
                raise
            pause(attempt, name, error)
    return action()


def pause(attempt: int, name: str, error: BaseException) -> None:
    """Log a failed attempt, and wait before the next one."""
    _LOGGER.warning("%s failed, attempt %d of %d: %s", name, attempt, ATTEMPTS, explain(error))
    time.sleep(BACKOFF_S * 2 ** (attempt - 1))


def wait(is_done: Callable[[], bool], action: str) -> None:
    """Wait until a session has reached a state.

    Args:
      is_done: asks for the state; it raises if the state cannot be reached.
      action: the action that waits, for the error.

    Raises:
      TableError: the state was not reached in time.
    """
    deadline, pause_s = time.monotonic() + READY_S, 0.1
    while not is_done():
        if time.monotonic() > deadline:
            raise TableError(f"{action}: the session is not ready after {READY_S:g} s.")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _MAX_WAIT_S)

"""What is built once on a machine, and shared by all SDK harnesses there.

In come a key that says what it is, by a hash of all that it is made of, and a function that builds it. Out goes the
directory where it is.

    <cache>/<key>/           what is built, in place: environments have their own path in their files
    <cache>/<key>/complete   written last; a directory without it was left by a builder that died, and is never used
    <cache>/<key>.lock       held while it is built, by the builder and by the tools that it starts
    <cache>/<key>.failed     why the last builder failed, for those who waited for it

The lock is the kernel's: it goes when the last process that holds it is gone, even by kill -9. So whoever gets it
knows that nobody writes to the directory any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from beam_tfscript.errors import ScriptEnvironmentError

__all__ = ["BUILD_TIMEOUT_S", "NOTICE_S", "Built", "build_once", "cache_directory"]

_LOGGER = logging.getLogger("beam_tfscript.script")

# TensorFlow is 500 MB to fetch and 2 GB to write; whatever takes longer than this has come to a stop.
BUILD_TIMEOUT_S = 1800.0
# A waiter waits for the builder, and for what it does after its last tool.
_WAIT_TIMEOUT_S = BUILD_TIMEOUT_S + 300.0
# Whoever waits says so in the log this often, so that a wait never looks like a hang.
NOTICE_S = 15.0
_POLL_S = 0.1
_MARKER = "complete"


class Built(NamedTuple):
    """What was built.

    Attributes:
      directory: where it is.
      note: what its builder said of it, on one line.
    """

    directory: str
    note: str


def cache_directory() -> str:
    """Where environments are kept: `BEAM_TFSCRIPT_CACHE`, or in `XDG_CACHE_HOME`, or in the temporary directory."""
    if own := os.environ.get("BEAM_TFSCRIPT_CACHE"):
        return os.path.abspath(own)
    if home := os.environ.get("XDG_CACHE_HOME"):
        return os.path.join(os.path.abspath(home), "beam_tfscript")
    return os.path.join(tempfile.gettempdir(), f"beam_tfscript_envs-{os.geteuid()}")


def build_once(
    key: str, build: Callable[[str, int], str], *, what: str, is_whole: Callable[[Built], bool] = lambda built: True
) -> Built:
    """What was built under that key on this machine; built now if it was not.

    Args:
      key: a file name that differs for all that differs.
      build: builds it in the directory that it is given, which is there and empty, and returns a note. Processes that
        it starts must inherit the descriptor that it is given too, which is the lock.
      what: what it is, for the log and for errors; without secrets.
      is_whole: whether what was built once is still usable; it is built again where it is not.

    Raises:
      ScriptEnvironmentError: the cache cannot be used, or the build failed.
    """
    cache = cache_directory()
    _check_owner(cache)
    built = _read(cache, key)
    if built is not None and is_whole(built):
        return built
    try:
        os.makedirs(cache, mode=0o700, exist_ok=True)
        _check_owner(cache)
        waiting_since = time.time()
        with _locked(os.path.join(cache, key + ".lock"), what) as lock:
            built = _read(cache, key)
            if built is not None and is_whole(built):
                return built
            _raise_if_failed(cache, key, waiting_since)
            _sweep(cache)
            return _build(cache, key, build, lock, what)
    except OSError as error:
        raise ScriptEnvironmentError(
            f"{what} cannot be built in {cache}: {error}. Set BEAM_TFSCRIPT_CACHE to a directory of your own "
            "with space."
        ) from error


def _build(cache: str, key: str, build: Callable[[str, int], str], lock: int, what: str) -> Built:
    directory = os.path.join(cache, key)
    failure = os.path.join(cache, key + ".failed")
    started_at = time.monotonic()
    _LOGGER.info("building %s in %s", what, directory)
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(failure)
    os.mkdir(directory, mode=0o700)
    try:
        note = build(directory, lock)
        with open(os.path.join(directory, _MARKER + ".part"), "w", encoding="utf-8") as marker:
            marker.write(note)
        os.rename(marker.name, os.path.join(directory, _MARKER))
    except (ScriptEnvironmentError, OSError) as error:
        with contextlib.suppress(OSError), open(failure, "w", encoding="utf-8") as file:
            file.write(str(error))
        raise
    finally:
        if not os.path.exists(os.path.join(directory, _MARKER)):
            shutil.rmtree(directory, ignore_errors=True)
    _LOGGER.info("built %s in %.1f s", what, time.monotonic() - started_at)
    return Built(directory, note)


def _read(cache: str, key: str) -> Built | None:
    """What is complete under that key, which asks for no lock and writes nothing: the cache may be read-only."""
    directory = os.path.join(cache, key)
    try:
        with open(os.path.join(directory, _MARKER), encoding="utf-8") as marker:
            return Built(directory, marker.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ScriptEnvironmentError(f"the cache {cache} cannot be read: {error}") from error


def _raise_if_failed(cache: str, key: str, waiting_since: float) -> None:
    """Fails as the builder did that this process waited for: each would fail after the other, and take its time."""
    failure = os.path.join(cache, key + ".failed")
    try:
        with open(failure, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mtime >= waiting_since:
                raise ScriptEnvironmentError(file.read())
    except FileNotFoundError:
        pass  # nobody failed


@contextlib.contextmanager
def _locked(path: str, what: str) -> Iterator[int]:
    """Holds the lock; waits for whoever has it, and says in the log who that is."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for_lock(lock, what)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _wait_for_lock(lock: int, what: str) -> None:
    started_at = time.monotonic()
    notice_at = started_at
    while not _try_lock(lock):
        now = time.monotonic()
        if now - started_at > _WAIT_TIMEOUT_S:
            raise ScriptEnvironmentError(
                f"{what} is still being built by {_holder(lock)} after {now - started_at:.0f} s of waiting for it. "
                "See whether that process is stuck, and end it."
            )
        if now >= notice_at:
            notice_at = now + NOTICE_S
            _LOGGER.info("waiting for %s, which builds %s, for %.0f s so far", _holder(lock), what, now - started_at)
        time.sleep(_POLL_S)  # the kernel's own wait has no time limit


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock: int) -> str:
    return os.pread(lock, 1000, 0).decode(errors="replace") or "another process"


def _sweep(cache: str) -> None:
    """Removes what builders left that died."""
    for entry in os.scandir(cache):
        if entry.name.endswith(".lock") or not entry.is_dir(follow_symlinks=False) or _is_complete(entry.path):
            continue
        try:
            lock = os.open(entry.path + ".lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # nobody's, or another user's
        try:
            if _try_lock(lock) and not _is_complete(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)
        finally:
            os.close(lock)


def _is_complete(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, _MARKER))


def _check_owner(cache: str) -> None:
    """Refuses a cache that others may write to: what is in it is run. One of root's, as in an image, is trusted."""
    try:
        found = os.lstat(cache)
    except OSError:
        return  # not there; making it says why where it cannot be made
    if stat.S_ISLNK(found.st_mode):
        raise ScriptEnvironmentError(f"the cache {cache} is a link: set BEAM_TFSCRIPT_CACHE to the directory itself.")
    if found.st_uid not in (os.geteuid(), 0) or (found.st_mode & 0o022):
        raise ScriptEnvironmentError(
            f"the cache {cache} belongs to user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}, so that "
            f"others could put programs there: it must be of user {os.geteuid()} and writable by nobody else. Set "
            "BEAM_TFSCRIPT_CACHE to another."
        )

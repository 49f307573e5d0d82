"""What is built once on a machine, and shared by all SDK harnesses there.

In come a key that says what it is, by a hash of all that it is made of, and a function that builds it. Out goes the
directory where it is.

    <cache>/<key>/           what is built, in place: environments have their own path in their files
    <cache>/<key>/complete   written last; a directory without it was left by a builder that died, and is never used.
                             Its time is the last use, to the day; script processes in it hold a shared lock on it
    <cache>/<key>.lock       held while it is built, by the builder and by the tools that it starts
    <cache>/<key>.failed     why the last builder failed, for those who waited for it

The locks are the kernel's: they go when the last process that holds them is gone, even by kill -9. So whoever gets the
first knows that nobody writes to the directory any more, and whoever gets both, that nobody uses it either. Whoever
builds removes what has not been used for long.
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

__all__ = ["BUILD_TIMEOUT_S", "NOTICE_S", "Built", "build_once", "cache_directory", "note_use", "use_marker"]

_LOGGER = logging.getLogger("beam_tfscript.script")

# TensorFlow is 500 MB to fetch and 2 GB to write; whatever takes longer than this has come to a stop.
BUILD_TIMEOUT_S = 1800.0
# A waiter waits for the builder, and for what it does after its last tool.
_WAIT_TIMEOUT_S = BUILD_TIMEOUT_S + 300.0
# Whoever waits says so in the log this often, so that a wait never looks like a hang.
NOTICE_S = 15.0
_POLL_S = 0.1
_MARKER = "complete"
# What nobody has used for so long is removed; 0 keeps all. Longer than a job that is run once a month rests.
_KEPT_DAYS = 40.0
_DAY_S = 86400.0


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
    if built is not None and is_whole(built) and note_use(built.directory):
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


def note_use(path: str) -> bool:
    """Notes that something of the cache is used now, once a day; a cache that cannot be written stays as it is.

    Args:
      path: of an entry, or anywhere in one; what is not in the cache is left alone.

    Returns:
      False if the entry is just being removed, or gone.
    """
    marker = use_marker(path)
    if marker is None:
        return True
    try:
        with open(marker, "rb") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime < _DAY_S:
                return True
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            with contextlib.suppress(OSError):
                os.utime(marker)
            return os.path.exists(marker)
    except (FileNotFoundError, BlockingIOError):
        return False


def use_marker(path: str) -> str | None:
    """The file of a cache entry that is locked, shared, for as long as a process runs in it; None outside the cache."""
    cache = cache_directory()
    if os.path.commonpath([cache, os.path.abspath(path)]) != cache:
        return None
    key = os.path.relpath(os.path.abspath(path), cache).split(os.sep)[0]
    return os.path.join(cache, key, _MARKER)


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
    """Removes what builders left that died, and what has not been used for long."""
    kept_s = _kept_s()
    for entry in os.scandir(cache):
        if entry.name.endswith(".lock") or not entry.is_dir(follow_symlinks=False) or _is_kept(entry.path, kept_s):
            continue
        try:
            lock = os.open(entry.path + ".lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # nobody's, or another user's
        try:
            if _try_lock(lock):
                _remove_unused(entry.path, kept_s)
        finally:
            os.close(lock)


def _remove_unused(directory: str, kept_s: float) -> None:
    """Removes an entry that nobody builds, unless a process runs in it or it has just been used."""
    marker = os.path.join(directory, _MARKER)
    try:
        in_use = os.open(marker, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)  # of a builder that died
        return
    try:
        if _try_lock(in_use) and not _is_kept(directory, kept_s):
            _LOGGER.info("removing %s from the cache: it has not been used for %.0f days", directory, kept_s / _DAY_S)
            os.unlink(marker)  # first, so that nobody takes what is half removed for whole
            shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(in_use)


def _is_kept(directory: str, kept_s: float) -> bool:
    """Whether an entry is complete, and was used not long ago."""
    try:
        used_at = os.stat(os.path.join(directory, _MARKER)).st_mtime
    except OSError:
        return False
    return not kept_s or time.time() - used_at < kept_s


def _kept_s() -> float:
    days = os.environ.get("BEAM_TFSCRIPT_CACHE_DAYS", "")
    try:
        return _DAY_S * max(float(days) if days else _KEPT_DAYS, 0.0)
    except ValueError as error:
        raise ScriptEnvironmentError(
            f"BEAM_TFSCRIPT_CACHE_DAYS must be a number of days, or 0 to keep all, got {days!r}."
        ) from error


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

"""What is built once on a machine, and shared by all SDK harnesses there.

In come a key that says what it is, by a hash of all that it is made of, and a function that builds it. Out goes the
directory where it is.

    <cache>/<key>/           what is built, in place: environments have their own path in their files
    <cache>/<key>/complete   written last; a directory without it was left by a builder that died, and is never used.
                             Its time is the last use, to the day; script processes in it hold a shared lock on it
    <cache>/<key>.lock       held while it is built, by the builder and by the tools that it starts
    <cache>/<key>.failed     why the last builder failed, for those who waited for it
    <cache>/<key>.1/         as the first, built beside it: the first was damaged, and processes ran in it

The locks are the kernel's: they go when the last process that holds them is gone, even by kill -9. So whoever gets the
first knows that nobody writes to the directory any more, and whoever gets both, that nobody uses it either. Whoever
builds removes what has not been used for long (`cache_removal.py`).
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
from beam_tfscript.files.cache_removal import DAY_S, MARKER, mark_damaged, remove_entry, sweep, try_lock

__all__ = ["BUILD_TIMEOUT_S", "NOTICE_S", "Built", "build_once", "cache_directory", "note_use", "use_marker"]

_LOGGER = logging.getLogger("beam_tfscript.script")

# TensorFlow is 500 MB to fetch and 2 GB to write; whatever takes longer than this has come to a stop.
BUILD_TIMEOUT_S = 1800.0
# A waiter waits for the builder, and for what it does after its last tool.
_WAIT_TIMEOUT_S = BUILD_TIMEOUT_S + 300.0
# Whoever waits says so in the log this often, so that a wait never looks like a hang.
NOTICE_S = 15.0
_POLL_S = 0.1
# Damaged entries of one key that processes run in, each with another built beside it. More have a cause to be found.
_MAX_BESIDE = 9
_ADVICE = "Where old files are cleaned away, set BEAM_TFSCRIPT_CACHE to a directory that is left alone."


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
    key: str, build: Callable[[str, int], str], *, what: str, find_damage: Callable[[Built], str | None]
) -> Built:
    """What was built under that key on this machine; built now if it was not.

    Args:
      key: a file name that differs for all that differs.
      build: builds it in the directory that it is given, which is there and empty, and returns a note. Processes that
        it starts must inherit the descriptor that it is given too, which is the lock.
      what: what it is, for the log and for errors; without secrets.
      find_damage: why what was built once is no longer usable, and is built again; None where it is usable. Old files
        in temporary directories are cleaned away, and not all at once.

    Raises:
      ScriptEnvironmentError: the cache cannot be used, or the build failed.
    """
    cache = cache_directory()
    _check_owner(cache)
    try:
        built, _ = _find_whole(cache, key, find_damage)
        if built is not None and note_use(built.directory):
            return built
        os.makedirs(cache, mode=0o700, exist_ok=True)
        _check_owner(cache)
        waiting_since = time.time()
        with _locked(os.path.join(cache, key + ".lock"), what) as lock:
            built, damage = _find_whole(cache, key, find_damage)
            if built is not None:
                return built
            _raise_if_failed(cache, key, waiting_since)
            for directory, reason in damage.items():
                _LOGGER.warning("%s in %s is damaged, and is built again: %s. %s", what, directory, reason, _ADVICE)
            sweep(cache)
            return _build(_make_room(cache, key, what), os.path.join(cache, key + ".failed"), build, lock, what)
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
            if time.time() - os.fstat(file.fileno()).st_mtime < DAY_S:
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
    return os.path.join(cache, key, MARKER)


def _find_whole(
    cache: str, key: str, find_damage: Callable[[Built], str | None]
) -> tuple[Built | None, dict[str, str]]:
    """What is complete and usable under a key; else the directories of what is damaged, with the reasons."""
    damage = {}
    for directory in _places(cache, key):
        built = _read(cache, directory)
        if built is not None:
            reason = find_damage(built)
            if reason is None:
                return built, {}
            damage[directory] = reason
    return None, damage


def _places(cache: str, key: str) -> Iterator[str]:
    """Where what has that key may be, in the order in which it is looked for."""
    yield os.path.join(cache, key)
    for number in range(1, _MAX_BESIDE + 1):
        yield os.path.join(cache, f"{key}.{number}")


def _make_room(cache: str, key: str, what: str) -> str:
    """The first place where nothing is, once what nobody uses there is removed."""
    for directory in _places(cache, key):
        if not os.path.lexists(directory) or remove_entry(directory):
            return directory
        mark_damaged(directory)
        _LOGGER.warning("%s is built beside %s, which processes run in: they are left alone", what, directory)
    raise ScriptEnvironmentError(
        f"{what} was damaged {_MAX_BESIDE + 1} times in {cache}, and processes run in all of its copies: see what "
        f"removes files there, and end those processes. {_ADVICE}"
    )


def _build(directory: str, failure: str, build: Callable[[str, int], str], lock: int, what: str) -> Built:
    started_at = time.monotonic()
    _LOGGER.info("building %s in %s", what, directory)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(failure)
    os.mkdir(directory, mode=0o700)
    try:
        note = build(directory, lock)
        with open(os.path.join(directory, MARKER + ".part"), "w", encoding="utf-8") as marker:
            marker.write(note)
        os.rename(marker.name, os.path.join(directory, MARKER))
    except (ScriptEnvironmentError, OSError) as error:
        with contextlib.suppress(OSError), open(failure, "w", encoding="utf-8") as file:
            file.write(str(error))
        raise
    finally:
        if not os.path.exists(os.path.join(directory, MARKER)):
            shutil.rmtree(directory, ignore_errors=True)
    _LOGGER.info("built %s in %.1f s", what, time.monotonic() - started_at)
    return Built(directory, note)


def _read(cache: str, directory: str) -> Built | None:
    """What is complete there, which asks for no lock and writes nothing: the cache may be read-only."""
    try:
        with open(os.path.join(directory, MARKER), encoding="utf-8") as marker:
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
    while not try_lock(lock):
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


def _holder(lock: int) -> str:
    return os.pread(lock, 1000, 0).decode(errors="replace") or "another process"


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

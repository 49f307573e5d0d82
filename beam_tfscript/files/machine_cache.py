"""Cache of environments and files that are built once per machine, and shared by all SDK harnesses there.

Input: a key, with a hash of everything that the entry is made of, and a function that builds the entry. Output: the
entry's directory.

    <cache>/<key>/           the entry, built in place, because environments have their own path in their files
    <cache>/<key>/complete   marker, written last. A directory without it is of a dead builder, and is never used. Its
                             time is the day of the last use; script processes in the entry hold a shared lock of it
    <cache>/<key>.lock       locked during a build, by the builder and by the tools that it starts
    <cache>/<key>.failed     the last builder's error, for the processes that waited for it
    <cache>/<key>.1/         a second entry: the first was damaged while processes ran in it

The kernel frees a lock when the last process that holds it ends, even by kill -9. So a process with the key's lock
knows that no process writes to the entry. A process with both locks knows that no process uses the entry either. A
builder removes entries that were not used for long (`cache_removal.py`).
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

# TensorFlow is 500 MB to fetch and 2 GB to write; a build that takes longer than this is stuck.
BUILD_TIMEOUT_S = 1800.0
# Longer than the build's timeout, by the time that a builder needs after its last tool.
_WAIT_TIMEOUT_S = BUILD_TIMEOUT_S + 300.0
# Interval of log lines about a wait, so that it never looks like a hang.
NOTICE_S = 15.0
_POLL_S = 0.1
# Further entries of one key, each built because processes run in the damaged ones. More have a cause to be found.
_MAX_FURTHER = 9
_ADVICE = "If a program removes old files there, set BEAM_TFSCRIPT_CACHE to a directory that it does not clean."


class Built(NamedTuple):
    """A complete entry of the cache.

    Attributes:
      directory: path of the entry.
      note: text that the builder returned, one line.
    """

    directory: str
    note: str


def cache_directory() -> str:
    """Return the cache: `BEAM_TFSCRIPT_CACHE`, or a directory in `XDG_CACHE_HOME` or the temporary directory."""
    if own := os.environ.get("BEAM_TFSCRIPT_CACHE"):
        return os.path.abspath(own)
    if home := os.environ.get("XDG_CACHE_HOME"):
        return os.path.join(os.path.abspath(home), "beam_tfscript")
    return os.path.join(tempfile.gettempdir(), f"beam_tfscript_envs-{os.geteuid()}")


def build_once(
    key: str, build: Callable[[str, int], str], *, label: str, find_damage: Callable[[Built], str | None]
) -> Built:
    """Return the entry of a key on this machine; build it if there is none.

    Args:
      key: a file name; different contents have different keys.
      build: function of a directory, which is empty, and of the lock's descriptor. It builds the entry there, and
        returns the note. Processes that it starts must inherit the descriptor.
      label: the entry's name in the log and in errors, without secrets.
      find_damage: returns the reason why an entry is not usable and must be built again; None if it is usable. Cleaners
        of temporary directories remove old files one by one.

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
        with _locked(os.path.join(cache, key + ".lock"), label) as lock:
            built, damage = _find_whole(cache, key, find_damage)
            if built is not None:
                return built
            _raise_if_failed(cache, key, waiting_since)
            for directory, reason in damage.items():
                _LOGGER.warning("%s in %s is damaged, and is built again: %s. %s", label, directory, reason, _ADVICE)
            sweep(cache)
            return _build(_free_directory(cache, key, label), os.path.join(cache, key + ".failed"), build, lock, label)
    except OSError as error:
        raise ScriptEnvironmentError(
            f"{label} cannot be built in {cache}: {error}. Set BEAM_TFSCRIPT_CACHE to a directory of your own "
            "with space."
        ) from error


def note_use(path: str) -> bool:
    """Note that an entry is used now, at most once per day; do nothing in a cache that cannot be written.

    Args:
      path: path of an entry, or in one; nothing is done for a path outside the cache.

    Returns:
      False if the entry is gone, or is being removed now.
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
    """Return the file of an entry on which processes in the entry hold a shared lock; None outside the cache."""
    cache = cache_directory()
    if os.path.commonpath([cache, os.path.abspath(path)]) != cache:
        return None
    key = os.path.relpath(os.path.abspath(path), cache).split(os.sep)[0]
    return os.path.join(cache, key, MARKER)


def _find_whole(
    cache: str, key: str, find_damage: Callable[[Built], str | None]
) -> tuple[Built | None, dict[str, str]]:
    """Return the usable entry of a key; else None, and the directories of damaged entries with the reasons."""
    damage = {}
    for directory in _directories(cache, key):
        built = _read(cache, directory)
        if built is not None:
            reason = find_damage(built)
            if reason is None:
                return built, {}
            damage[directory] = reason
    return None, damage


def _directories(cache: str, key: str) -> Iterator[str]:
    """Yield the directories that a key's entry may have, in the order of the search."""
    yield os.path.join(cache, key)
    for number in range(1, _MAX_FURTHER + 1):
        yield os.path.join(cache, f"{key}.{number}")


def _free_directory(cache: str, key: str, label: str) -> str:
    """Return the first directory of a key that is free, after removal of entries that no process uses."""
    for directory in _directories(cache, key):
        if not os.path.lexists(directory) or remove_entry(directory):
            return directory
        mark_damaged(directory)
        _LOGGER.warning("%s is built beside %s, because processes still run there", label, directory)
    raise ScriptEnvironmentError(
        f"{label} was damaged {_MAX_FURTHER + 1} times in {cache}, and processes run in all of its copies: find out "
        f"what removes files there, and end those processes. {_ADVICE}"
    )


def _build(directory: str, failure: str, build: Callable[[str, int], str], lock: int, label: str) -> Built:
    started_at = time.monotonic()
    _LOGGER.info("building %s in %s", label, directory)
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
    _LOGGER.info("built %s in %.1f s", label, time.monotonic() - started_at)
    return Built(directory, note)


def _read(cache: str, directory: str) -> Built | None:
    """Return the complete entry in a directory, without locks and writes, because the cache may be read-only."""
    try:
        with open(os.path.join(directory, MARKER), encoding="utf-8") as marker:
            return Built(directory, marker.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ScriptEnvironmentError(f"the cache {cache} cannot be read: {error}") from error


def _raise_if_failed(cache: str, key: str, waiting_since: float) -> None:
    """Raise the error of the builder that this process waited for, instead of the same build again."""
    failure = os.path.join(cache, key + ".failed")
    try:
        with open(failure, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mtime >= waiting_since:
                raise ScriptEnvironmentError(file.read())
    except FileNotFoundError:
        pass  # no build failed


@contextlib.contextmanager
def _locked(path: str, label: str) -> Iterator[int]:
    """Hold a lock; log which process has it during the wait."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for_lock(lock, label)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _wait_for_lock(lock: int, label: str) -> None:
    started_at = time.monotonic()
    notice_at = started_at
    while not try_lock(lock):
        now = time.monotonic()
        if now - started_at > _WAIT_TIMEOUT_S:
            raise ScriptEnvironmentError(
                f"{label} is still being built by {_holder(lock)}; this process has waited {now - started_at:.0f} s. "
                "If the builder is stuck, end it."
            )
        if now >= notice_at:
            notice_at = now + NOTICE_S
            _LOGGER.info("waiting for %s, which builds %s, for %.0f s so far", _holder(lock), label, now - started_at)
        time.sleep(_POLL_S)  # flock's own wait has no timeout


def _holder(lock: int) -> str:
    return os.pread(lock, 1000, 0).decode(errors="replace") or "another process"


def _check_owner(cache: str) -> None:
    """Refuse a cache that other users may write to, because its programs are run; root's cache is trusted."""
    try:
        found = os.lstat(cache)
    except OSError:
        return  # it is made later, with an error if that fails
    if stat.S_ISLNK(found.st_mode):
        raise ScriptEnvironmentError(f"the cache {cache} is a link: set BEAM_TFSCRIPT_CACHE to the directory itself.")
    if found.st_uid not in (os.geteuid(), 0) or (found.st_mode & 0o022):
        raise ScriptEnvironmentError(
            f"the cache {cache} belongs to user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}, so that "
            f"others could put programs there: it must belong to user {os.geteuid()} and be writable by nobody else. "
            "Set BEAM_TFSCRIPT_CACHE to another directory."
        )

"""Removal of entries from the machine's cache: entries of dead builders, damaged entries, and unused ones.

An entry in which a process runs stays, and so does an entry that cannot be written. `machine_cache.py` describes the
locks that show both.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable

from beam_tfscript.errors import ScriptEnvironmentError

__all__ = ["DAY_S", "MARKER", "mark_damaged", "remove_entry", "sweep", "try_lock"]

_LOGGER = logging.getLogger("beam_tfscript.script")

MARKER = "complete"
DAY_S = 86400.0
# File in a damaged entry, which is removed as soon as no process runs in it, however recently it was used.
_DAMAGED = "damaged"
# An entry that was not used for so long is removed; 0 keeps all. Longer than the time between runs of a monthly job.
_KEPT_DAYS = 40.0


def sweep(cache: str) -> None:
    """Remove the entries of dead builders, and entries that were not used for long.

    Raises:
      ScriptEnvironmentError: BEAM_TFSCRIPT_CACHE_DAYS is not a number.
    """
    kept_s = _kept_s()
    for entry in os.scandir(cache):
        if entry.name.endswith(".lock") or not entry.is_dir(follow_symlinks=False) or _is_kept(entry.path, kept_s):
            continue
        with contextlib.suppress(OSError):  # no lock file, another user's entry, or a disk without locks
            _sweep_entry(entry.path, os.path.join(cache, entry.name.partition(".")[0] + ".lock"), kept_s)


def remove_entry(directory: str, *, unless: Callable[[], bool] = lambda: False) -> bool:
    """Remove an entry, unless a process runs in it.

    Args:
      directory: the entry; the caller holds the lock of its key, so no process builds it.
      unless: called when no process runs in the entry; True keeps it.

    Returns:
      True if the entry is gone.
    """
    marker = os.path.join(directory, MARKER)
    try:
        # Writable: NFS gives exclusive locks only to writable descriptors.
        in_use = os.open(marker, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        shutil.rmtree(directory, ignore_errors=True)  # the entry of a dead builder
        return not os.path.lexists(directory)
    except OSError:
        return False  # another user's entry, or a read-only disk
    try:
        if not try_lock(in_use) or unless():
            return False
        os.unlink(marker)  # first, so that no process uses an entry that is half removed
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(in_use)
    # NFS keeps an open file under another name, and so keeps its directory. Now the marker is closed.
    shutil.rmtree(directory, ignore_errors=True)
    return not os.path.lexists(directory)


def mark_damaged(directory: str) -> None:
    """Mark an entry as damaged, so that it is removed when no process runs in it any more."""
    with contextlib.suppress(OSError), open(os.path.join(directory, _DAMAGED), "wb"):
        pass


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of a file; return False if another process holds a lock of it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep_entry(directory: str, lock_path: str, kept_s: float) -> None:
    lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if try_lock(lock) and remove_entry(directory, unless=lambda: _is_kept(directory, kept_s)):
            _LOGGER.info("removed %s from the cache: it is not in use", directory)
    finally:
        os.close(lock)


def _is_kept(directory: str, kept_s: float) -> bool:
    """Return True if an entry is complete, not damaged, and was used recently."""
    try:
        used_at = os.stat(os.path.join(directory, MARKER)).st_mtime
    except OSError:
        return False
    if os.path.exists(os.path.join(directory, _DAMAGED)):
        return False
    return not kept_s or time.time() - used_at < kept_s


def _kept_s() -> float:
    days = os.environ.get("BEAM_TFSCRIPT_CACHE_DAYS", "")
    try:
        return DAY_S * max(float(days) if days else _KEPT_DAYS, 0.0)
    except ValueError as error:
        raise ScriptEnvironmentError(
            f"BEAM_TFSCRIPT_CACHE_DAYS must be a number of days, or 0 to keep all, got {days!r}."
        ) from error

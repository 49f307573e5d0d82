"""Removes entries of the cache: what dead builders left, what is damaged, and what nobody has used for long.

In comes the cache's directory, or that of an entry. What a process runs in stays, and so does what cannot be written;
`env_cache.py` says by which locks that is known.
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
# In an entry that another was built beside: it goes as soon as nobody uses it, however young it is.
_DAMAGED = "damaged"
# What nobody has used for so long is removed; 0 keeps all. Longer than a job that is run once a month rests.
_KEPT_DAYS = 40.0


def sweep(cache: str) -> None:
    """Remove what builders left that died, and what has not been used for long.

    Raises:
      ScriptEnvironmentError: BEAM_TFSCRIPT_CACHE_DAYS is no number.
    """
    kept_s = _kept_s()
    for entry in os.scandir(cache):
        if entry.name.endswith(".lock") or not entry.is_dir(follow_symlinks=False) or _is_kept(entry.path, kept_s):
            continue
        with contextlib.suppress(OSError):  # nobody's, another user's, or on a disk that knows no locks
            _sweep_entry(entry.path, os.path.join(cache, entry.name.partition(".")[0] + ".lock"), kept_s)


def remove_entry(directory: str, *, unless: Callable[[], bool] = lambda: False) -> bool:
    """Remove an entry that nobody builds, unless a process runs in it.

    Args:
      directory: the entry; the caller holds its key's lock.
      unless: asked once it is sure that no process runs there: whether it stays all the same.

    Returns:
      Whether it is gone.
    """
    marker = os.path.join(directory, MARKER)
    try:
        # Writable: NFS gives an exclusive lock for no other descriptor.
        in_use = os.open(marker, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        shutil.rmtree(directory, ignore_errors=True)  # of a builder that died
        return not os.path.lexists(directory)
    except OSError:
        return False  # another user's, or on a read-only disk
    try:
        if not try_lock(in_use) or unless():
            return False
        os.unlink(marker)  # first, so that nobody takes what is half removed for whole
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(in_use)
    # NFS keeps a file that is open, under another name, and its directory with it.
    shutil.rmtree(directory, ignore_errors=True)
    return not os.path.lexists(directory)


def mark_damaged(directory: str) -> None:
    """Note that an entry is not to be used again, and is removed when no process runs in it any more."""
    with contextlib.suppress(OSError), open(os.path.join(directory, _DAMAGED), "wb"):
        pass


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock, if nobody holds any."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep_entry(directory: str, lock_path: str, kept_s: float) -> None:
    lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if try_lock(lock) and remove_entry(directory, unless=lambda: _is_kept(directory, kept_s)):
            _LOGGER.info("removed %s from the cache: nobody uses it", directory)
    finally:
        os.close(lock)


def _is_kept(directory: str, kept_s: float) -> bool:
    """Whether an entry is complete, and was used not long ago."""
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

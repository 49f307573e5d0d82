"""Scratch directory of an SDK harness: one process owns it, and it is removed after the owner's death.

The owner holds a lock on a file in the directory for as long as it lives; the system releases the lock even after
kill -9. A script process whose pipeline died tries to take the lock, and so does the next harness on the machine.
A process that gets the lock knows that the owner is dead, and removes the directory. The owner's guardian sees the
owner's end, and removes the directory without the lock.
"""

import fcntl
import os
import shutil
import tempfile
import time

PREFIX = "beam_tfscript-"
_LOCK = "owner.lock"


def own(directory):
    """Mark `directory` as owned by this process.

    Returns:
      The file descriptor that holds the lock; closing it gives the directory up.

    Raises:
      BlockingIOError: another process holds the lock.
    """
    descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_owned(parent):
    """Make a directory that is owned by this process.

    Returns:
      (path, file descriptor that holds the lock).
    """
    while True:
        path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        try:
            lock = own(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # between the two steps, another process took the directory for abandoned, and removes it
        if os.path.exists(path):
            return path, lock
        os.close(lock)


def remove_if_abandoned(directory, patience_s=0.0):
    """Remove a scratch directory whose owner is dead; leave any other alone.

    Args:
      directory: path of the scratch directory.
      patience_s: seconds to retry. The system closes the descriptors of a killed process one by one. A process that
        sees the channel close may come here before the lock is released.

    Returns:
      True if the directory was removed.
    """
    try:
        descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # never owned, being made now, already removed, or another user's
    try:
        if not _lock(descriptor, time.time() + patience_s):
            return False  # the owner lives
        remove_tree(directory)
        return True
    finally:
        os.close(descriptor)


def remove_tree(directory):
    """Remove a directory with its contents; leave files that cannot be removed.

    Staged files and their directories are read-only. Only root could remove a file from a read-only directory.
    """
    for folder, _, _ in os.walk(directory):
        if not os.access(folder, os.W_OK):
            try:
                os.chmod(folder, 0o700)
            except OSError:
                pass  # another user's, or gone
    shutil.rmtree(directory, ignore_errors=True)


def _lock(descriptor, deadline):
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.time() >= deadline:
                return False
            time.sleep(0.02)

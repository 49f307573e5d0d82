"""The scratch directory of one SDK harness: who owns it, and how it goes when its owner is gone.

The owner holds a lock on a file in the directory for as long as it lives. Whoever gets that lock
(a script process whose pipeline died, or the next harness on the machine) knows that the owner is
dead, even by kill -9, and removes the directory. The owner's guardian, which sees its end, does so
without the lock.
"""

import fcntl
import os
import shutil
import tempfile
import time

PREFIX = "beam_tfscript-"
_LOCK = "owner.lock"


def own(directory):
    """Marks `directory` as owned by this process.

    Returns:
      The file descriptor that holds the lock; closing it gives the directory up.
    """
    descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_owned(parent):
    """Makes a directory that is owned by this process.

    Returns:
      (path, file descriptor as of `own`).
    """
    while True:
        path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        try:
            lock = own(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process came between the two steps, took it for abandoned, and removes it
        if os.path.exists(path):
            return path, lock
        os.close(lock)


def remove_if_abandoned(directory, patience_s=0.0):
    """Removes a scratch directory whose owner is dead; leaves any other alone.

    Args:
      directory: the scratch directory.
      patience_s: how long to ask again. The descriptors of a process that was killed are closed one
        after the other: whoever saw the first of them go may come before the lock has gone.

    Returns:
      Whether it was removed.
    """
    try:
        descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # never owned, just being made, removed by another, or another user's
    try:
        if not _lock(descriptor, time.time() + patience_s):
            return False  # the owner lives
        remove_tree(directory)
        return True
    finally:
        os.close(descriptor)


def remove_tree(directory):
    """Removes a directory with all that is in it; what cannot be removed is left.

    Staged files are read-only, and so are their directories, out of which only root could remove them.
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

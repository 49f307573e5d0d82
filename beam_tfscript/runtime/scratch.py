"""The scratch directory of one SDK harness: who owns it, and how it goes when its owner is gone.

The owner holds a lock on a file in the directory for as long as it lives. Whoever gets that lock
(a script process whose pipeline died, or the next harness on the machine) knows that the owner is
dead, even by kill -9, and removes the directory.
"""

import fcntl
import os
import shutil

PREFIX = "beam_tfscript-"
_LOCK = "owner.lock"


def own(directory):
    """Marks `directory` as owned by this process.

    Returns:
      The file descriptor that holds the lock; closing it gives the directory up.
    """
    descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def remove_if_abandoned(directory):
    """Removes a scratch directory whose owner is dead; leaves any other alone.

    Returns:
      Whether it was removed.
    """
    try:
        descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # never owned, just being made, removed by another, or another user's
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
        return True
    except OSError:
        return False  # the owner lives
    finally:
        os.close(descriptor)

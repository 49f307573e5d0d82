"""The harness' scratch directory: made when first needed, swept of what dead harnesses left, removed at the end."""

from __future__ import annotations

import os
import shutil
import tempfile

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.runtime import scratch


class ScratchDirectory:
    """A directory under the system's temporary directory (`TMPDIR`) that this process owns.

    Attributes:
      path: where it is.
    """

    def __init__(self) -> None:
        parent = tempfile.gettempdir()
        _sweep(parent)
        try:
            self.path, self._lock = _make_owned(parent)
        except OSError as error:
            raise ScriptEnvironmentError(
                f"no scratch directory can be made in {parent}: {error}. Set TMPDIR to a directory with space."
            ) from error

    def remove(self) -> None:
        """Removes it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _make_owned(parent: str) -> tuple[str, int]:
    while True:
        path = tempfile.mkdtemp(prefix=scratch.PREFIX, dir=parent)
        try:
            lock = scratch.own(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # another harness' sweep came between the two steps, and removes it
        if os.path.exists(path):
            return path, lock
        os.close(lock)


def _sweep(parent: str) -> None:
    for entry in os.scandir(parent):
        if entry.name.startswith(scratch.PREFIX) and entry.is_dir(follow_symlinks=False):
            scratch.remove_if_abandoned(entry.path)

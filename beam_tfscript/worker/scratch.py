"""Scratch directory of a harness: made when first needed, removed at its end, or by the next harness."""

from __future__ import annotations

import os
import tempfile

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.runtime.transport import scratch
from beam_tfscript.worker.guardian import Guardian


class ScratchDirectory:
    """A directory under the system's temporary directory (`TMPDIR`) that this process owns.

    Attributes:
      path: the directory.
      guardian: removes it, and ends registered processes, if this process dies.
    """

    def __init__(self) -> None:
        parent = tempfile.gettempdir()
        _sweep(parent)
        try:
            self.path, self._lock = scratch.make_owned(parent)
        except OSError as error:
            raise ScriptEnvironmentError(
                f"no scratch directory can be made in {parent}: {error}. Set TMPDIR to a directory with space."
            ) from error
        try:
            self.guardian = Guardian(self.path)
        except ScriptEnvironmentError:
            scratch.remove_tree(self.path)
            os.close(self._lock)
            raise

    def remove(self) -> None:
        """Remove the directory with all its files."""
        scratch.remove_tree(self.path)
        # Last, as this process may be killed while it removes the directory.
        self.guardian.close()
        os.close(self._lock)


def _sweep(parent: str) -> None:
    for entry in os.scandir(parent):
        if entry.name.startswith(scratch.PREFIX) and entry.is_dir(follow_symlinks=False):
            scratch.remove_if_abandoned(entry.path)

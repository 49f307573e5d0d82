"""Removal of directories that killed jobs have left, on any of Beam's file systems."""

from __future__ import annotations

import logging
import os
import time

from beam_tfscript.files import beam_files
from beam_tfscript.files.uris import local_path, mask_uri

__all__ = ["remove_old"]

_LOGGER = logging.getLogger(__name__)


def remove_old(prefix: str, *, age_s: float) -> None:
    """Remove directories whose files have not changed for long; warn of those that cannot be removed.

    Args:
      prefix: start of the paths of the directories.
      age_s: in seconds, by the clocks of this machine and of the file system; minus infinity for all directories.
    """
    try:
        for path, changed in _newest_changes(prefix).items():
            if changed < time.time() - age_s:
                beam_files.remove_tree(path)
                _LOGGER.info("removed %s", mask_uri(path))
    except FileNotFoundError:
        pass  # another process removes them too
    except Exception as error:  # noqa: BLE001 - each file system raises the errors of its own library
        _LOGGER.warning("directories of other jobs cannot be removed from %s*: %s", mask_uri(prefix), error)


def _newest_changes(prefix: str) -> dict[str, float]:
    """Return the directories whose paths begin with a prefix, each with the time of its newest change."""
    local = local_path(prefix)
    if local is not None:
        # Beam would list all files below the parent, which may be the directory of temporary files.
        with os.scandir(os.path.dirname(local)) as entries:
            start = os.path.basename(local)
            found = [entry for entry in entries if entry.name.startswith(start) and entry.is_dir()]
        return {entry.path: _newest_local_change(entry) for entry in found}
    newest: dict[str, float] = {}
    for metadata in beam_files.find(f"{prefix}*/*"):
        path = metadata.path.rpartition("/")[0]
        newest[path] = max(newest.get(path, 0.0), metadata.last_updated_in_seconds)
    return newest


def _newest_local_change(directory: os.DirEntry) -> float:
    # A file that is written anew does not change its directory.
    with os.scandir(directory.path) as entries:
        return max((entry.stat().st_mtime for entry in entries), default=directory.stat().st_mtime)

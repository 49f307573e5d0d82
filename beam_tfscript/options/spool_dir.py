"""Argument `spool_dir`: the directory for files of rows, checked while the pipeline is built."""

from __future__ import annotations

import os

from beam_tfscript.files.beam_files import check_file_system
from beam_tfscript.files.uris import local_path


def check_spool_dir(spool_dir: str | None) -> str | None:
    """Return the directory: an absolute path, or a URI; None for the default.

    Raises:
      ArgumentError: no file system is known for it.
    """
    if spool_dir is None:
        return None
    path = local_path(spool_dir)
    if path is not None:
        return os.path.abspath(path)  # workers have a current directory of their own
    check_file_system("spool_dir", spool_dir)
    return spool_dir.rstrip("/")

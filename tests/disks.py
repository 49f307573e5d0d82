"""Small disks, for what happens when one is full."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def tmpfs(path: pathlib.Path, options: str) -> Iterator[pathlib.Path]:
    """A file system in memory, mounted at a path while the block lasts.

    Args:
      path: a directory, which is made.
      options: of the mount, such as `size=4m`.
    """
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)

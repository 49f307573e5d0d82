"""Runs Python code whose writes are checked against the modes of files, also where the tests run as root."""

from __future__ import annotations

import ctypes
import os
import pathlib
import subprocess
import sys

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1
_ROOT = pathlib.Path(__file__).parent.parent


def run_unprivileged(code: str, *arguments: str, **variables: str) -> str:
    """Return the output of code that this interpreter runs as a user without root's right to write any file."""
    libc = ctypes.CDLL(None, use_errno=True)

    def drop() -> None:
        if os.geteuid() == 0 and libc.prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the right to write everywhere cannot be given up")

    environment = {**os.environ, "PYTHONPATH": str(_ROOT), **variables}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, preexec_fn=drop, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout

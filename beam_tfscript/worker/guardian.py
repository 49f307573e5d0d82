"""The harness's end of its guardian: a small process that outlives a killed harness and cleans up after it."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.runtime.transport import scratch

_LOGGER = logging.getLogger(__name__)

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard_main.py")
_RUNTIME = os.path.dirname(os.path.abspath(scratch.__file__))
# How long the guardian may take to end after it was told to.
_QUIT_S = 5.0


class Guardian:
    """Ends the script processes of this harness and removes its scratch directory if the harness dies.

    Args:
      directory: the harness's scratch directory.

    Raises:
      ScriptEnvironmentError: the process cannot be started.
    """

    def __init__(self, directory: str):
        python = sys.executable or "python3"
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-S", _PROGRAM, str(os.getpid()), directory, _RUNTIME],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                cwd="/",
                # Signals for the harness's group, such as Ctrl-C, must not end it first.
                start_new_session=True,
            )
        except OSError as error:
            raise ScriptEnvironmentError(
                f"the process that cleans up after this worker cannot be started with {python!r}: {error}"
            ) from error
        assert self._process.stdin is not None
        # A guardian that does not read must not hold up the harness.
        os.set_blocking(self._process.stdin.fileno(), False)

    def watch(self, group: int) -> None:
        """Register a process group."""
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        """Remove a process group; the system may give its id to another group once its leader is reaped."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """End the guardian, which then cleans up nothing."""
        self._tell("quit")
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_QUIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), line.encode() + b"\n")
        except (OSError, ValueError) as error:  # it has ended, or was ended here
            _LOGGER.warning("the process that cleans up after this worker cannot be told %s: %s", line, error)

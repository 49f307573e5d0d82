"""The end of a child process, looked at without reaping it: until it is reaped, its id names no other process."""

from __future__ import annotations

import os
import select
import subprocess
import time

# Where the system cannot tell of a process's end through a descriptor, a wait looks this often.
_TICK_S = 0.05


class ExitStatus:
    """Whether and how a child process has ended.

    Reaping is left to the owner, who kills the process's group first: the group's id is the process's, and the system
    may give a reaped process's id to a stranger.

    Args:
      popen: a child of this process.

    Attributes:
      descriptor: becomes readable when the process ends; None where the system has no such descriptor.
    """

    def __init__(self, popen: subprocess.Popen):
        self._popen = popen
        self._returncode: int | None = None
        try:
            self.descriptor: int | None = os.pidfd_open(popen.pid)
        except (AttributeError, OSError):
            self.descriptor = None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while the process lives."""
        if self._returncode is None:
            try:
                ended = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                # It is reaped: by its owner, or by other code in this interpreter that waits for any child, in which
                # case its status is lost, and is 0 for subprocess.
                self._returncode = self._popen.poll()
                return self._returncode
            if ended is not None:
                self._returncode = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return self._returncode

    def wait(self, timeout_s: float) -> bool:
        """Wait for the process's end; return whether it has ended."""
        deadline = time.monotonic() + timeout_s
        while self.returncode is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            poll = select.poll()
            if self.descriptor is None:
                remaining = min(remaining, _TICK_S)
            else:
                poll.register(self.descriptor, select.POLLIN)
            poll.poll(int(remaining * 1000) + 1)
        return True

    def close(self) -> None:
        """Close the descriptor; the status, if it is known, stays."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

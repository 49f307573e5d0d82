"""End of a child process, observed without reaping it: until then, its id names no other process."""

from __future__ import annotations

import os
import select
import subprocess
import time

# Poll interval for a process's end, on systems that have no descriptor for it.
_TICK_S = 0.05


class ExitStatus:
    """Exit status of a child process, once it has ended.

    The owner reaps the process, and kills its group before that. The group's id is the process's id, which the system
    may give to an unrelated process after the reaping.

    Args:
      popen: a child of this process.

    Attributes:
      descriptor: becomes readable when the process ends; None if the system has no such descriptor.
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
                # Reaped by its owner, or by other code in this interpreter that waits for any child. Then the status is
                # lost, and `subprocess` gives 0.
                self._returncode = self._popen.poll()
                return self._returncode
            if ended is not None:
                self._returncode = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return self._returncode

    def wait(self, timeout_s: float) -> bool:
        """Wait for the process's end; return True if it has ended."""
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
        """Close the descriptor; a status that is known stays."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

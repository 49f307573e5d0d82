"""Program that ends a dead SDK harness's script processes and removes its scratch directory.

Run by path, as `python -I -S guard_main.py OWNER_PID SCRATCH_DIRECTORY RUNTIME_DIRECTORY`, and so without this package.
It needs one module of the package, `scratch.py` in the runtime's directory.

Standard input brings one line per process group: `+<id>` when a script process starts, `-<id>` before it is reaped. A
line `quit` comes when the harness ends in order. When the harness dies in any other way, even by SIGKILL, every
registered group is killed and the scratch directory is removed. Script processes cannot do that themselves: one that
is stopped, or is inside a long C call, does not see its harness end.

Standard library only, and Python 3.6 syntax: where the harness has no interpreter of its own, the script's runs this.
"""

import os
import select
import signal
import sys
import time

# Poll interval for the owner's end, on systems that have no descriptor for it.
_TICK_S = 1.0
# How long killed processes may take to be gone; after that their directories are removed anyway.
_GONE_S = 5.0
_READ_BYTES = 1 << 16


class Quit(Exception):
    """The owner ends in order and has cleaned up itself."""


class Orders:
    """The lines on standard input.

    Attributes:
      groups: process groups that are registered now.
      is_open: True while more lines may come.
    """

    def __init__(self):
        self.groups = set()
        self.is_open = True
        self._rest = b""
        os.set_blocking(0, False)

    def read(self):
        """Take in all lines that have come; raise Quit at `quit`."""
        while self.is_open:
            try:
                data = os.read(0, _READ_BYTES)
            except BlockingIOError:
                return
            self.is_open = bool(data)
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            for line in lines:
                self._take(line)

    def _take(self, line):
        if line == b"quit":
            raise Quit
        change = self.groups.add if line.startswith(b"+") else self.groups.discard
        change(int(line[1:]))


def main():
    """Wait for the owner's end or for `quit`."""
    owner, directory, runtime = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    exit_descriptor = _open_exit_descriptor(owner)
    orders = Orders()
    has_ended = False
    try:
        while not has_ended:
            has_ended = _wait(owner, exit_descriptor, orders)
            # Also after the end: the owner's last lines are still in the pipe.
            orders.read()
    except Quit:
        return
    _end(orders.groups)
    # At the end, so that nothing there can hide a module of the standard library's.
    sys.path.append(runtime)
    from scratch import remove_tree  # type: ignore[import-not-found]

    remove_tree(directory)


def _open_exit_descriptor(owner):
    """Return a descriptor that becomes readable when the owner ends; None if the system has none."""
    try:
        return os.pidfd_open(owner)
    except (AttributeError, OSError):
        return None


def _wait(owner, exit_descriptor, orders):
    """Wait for input or the owner's end; return True if the owner has ended."""
    poll = select.poll()
    if orders.is_open:
        poll.register(0, select.POLLIN)
    if exit_descriptor is None:
        poll.poll(int(_TICK_S * 1000))
        return os.getppid() != owner
    poll.register(exit_descriptor, select.POLLIN)
    return exit_descriptor in dict(poll.poll())


def _end(groups):
    """Kill the process groups and wait until they are gone."""
    deadline = time.time() + _GONE_S
    while groups and time.time() < deadline:
        for group in list(groups):
            try:
                os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                groups.discard(group)
        if groups:
            time.sleep(0.02)


if __name__ == "__main__":
    main()

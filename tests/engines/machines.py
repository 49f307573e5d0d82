"""Machines that share no network with each other: network namespaces on one bridge, each with an address of its own.

What runs on a machine reaches the others by their addresses, and itself alone by `localhost`. Needs root and `ip`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from tests.engines.tools import ToolMissing

_BRIDGE = "btfs0"
_NETWORK = "10.77.0"
HOST = f"{_NETWORK}.1"


class Machine:
    """One machine.

    Attributes:
      address: how the others reach it.
      directory: its own working directory; its temporary files are below it.
    """

    def __init__(self, number: int, directory: pathlib.Path):
        self.address = f"{_NETWORK}.{10 + number}"
        self.directory = directory
        self._name = f"btfs-{number}"
        self._link = f"btfs{number}"
        self._processes: list[subprocess.Popen] = []
        (directory / "tmp").mkdir(parents=True)
        _ip("netns", "add", self._name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._name)
        _ip("link", "set", self._link, "master", _BRIDGE, "up")
        for arguments in (
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-netns", self._name, *arguments)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen:
        """Start a program on this machine, in a process group of its own; its log is `<name>.log`."""
        variables = {**os.environ, **(environment or {}), "TMPDIR": str(self.directory / "tmp")}
        with open(self.directory / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._name, *command],
                cwd=self.directory, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def pids(self) -> list[int]:
        """Everything that runs on this machine."""
        found = subprocess.run(["ip", "netns", "pids", self._name], capture_output=True, text=True, check=True)
        return [int(pid) for pid in found.stdout.split()]

    def remove(self) -> None:
        """End what runs on it, and remove it."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()
        _ip("link", "del", self._link)
        _ip("netns", "del", self._name)


@contextlib.contextmanager
def machines(count: int, directory: pathlib.Path) -> Iterator[list[Machine]]:
    """So many machines, while the block lasts; this one is on their network too, as `HOST`."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise ToolMissing("machines need root and `ip` (iproute2), to make network namespaces: tests are skipped.")
    _clean_up(count)
    made: list[Machine] = []
    _ip("link", "add", "name", _BRIDGE, "type", "bridge")
    try:
        _ip("addr", "add", f"{HOST}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for number in range(1, count + 1):
            made.append(Machine(number, directory / f"machine-{number}"))
        yield made
    finally:
        for machine in made:
            machine.remove()
        _ip("link", "del", _BRIDGE)


def _clean_up(count: int) -> None:
    """Remove what a session left that was killed."""
    for number in range(1, count + 1):
        name = f"btfs-{number}"
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "link", "del", f"btfs{number}"], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    subprocess.run(["ip", "link", "del", _BRIDGE], capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")

"""Machines that share nothing but a network and one directory: namespaces of network and files, and users of their own.

What runs on a machine reaches the others by their addresses, and itself alone by `localhost`. If there is a shared
directory, it sees of this machine's tests only that one and its own, and is a user of its own. Needs root, `ip` and
`setpriv`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from tests.engines.tools import ToolMissing

_NAME, _NETWORK = "btfs", "10.77.0"
# Hides a directory, but for the machine's own directory and the shared one in it, and becomes another user. This user
# may enter a directory of another user's, such as root's home, if the interpreter is there.
# Arguments: own directory, shared directory, hidden directory, directory to open or "", user, command.
_ENTER = """
set -e
own=$1 shared=$2 hidden=$3 opened=$4 user=$5; shift 5
exec 3<"$own" 4<"$shared"
mount -t tmpfs none "$hidden"
chmod 755 "$hidden"
mkdir -p "$own" "$shared"
mount -c --bind /proc/self/fd/3 "$own"
mount -c --bind /proc/self/fd/4 "$shared"
exec 3<&- 4<&-
if [ -n "$opened" ]; then
    mkdir "$hidden/upper" "$hidden/work"
    mount -t overlay overlay -o "lowerdir=$opened,upperdir=$hidden/upper,workdir=$hidden/work" "$opened"
    chmod a+x "$opened"
fi
cd "$own"
umask 0
exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
"""
HOST = f"{_NETWORK}.1"


class Machine:
    """One machine.

    Attributes:
      address: how the others reach it.
      directory: its own working directory; its temporary files are below it.
    """

    def __init__(
        self, number: int, directory: pathlib.Path, name: str, network: str, shared: pathlib.Path | None = None
    ):
        self.address = f"{network}.{10 + number}"
        self.directory = directory
        self._name = f"{name}-{number}"
        self._link, self._bridge = f"{name}{number}", f"{name}0"
        self._processes: list[subprocess.Popen] = []
        # Beam's boot program needs a user that the system knows.
        self._user = sorted(user.pw_uid for user in pwd.getpwall())[number]
        self._shared = shared
        (directory / "tmp").mkdir(parents=True)
        if shared is not None:
            os.chown(directory, self._user, self._user)
            os.chown(directory / "tmp", self._user, self._user)
        _ip("netns", "add", self._name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._name)
        _ip("link", "set", self._link, "master", self._bridge, "up")
        for arguments in (
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-netns", self._name, *arguments)

    def add_address(self, address: str, device: str) -> None:
        """Give the machine another address, on one of its devices: `eth0` or `lo`."""
        _ip("-netns", self._name, "addr", "add", address, "dev", device)

    @contextlib.contextmanager
    def without_network(self) -> Iterator[None]:
        """Cut the machine off while the block lasts: what it sends, and what is sent to it, gets lost in silence."""
        _ip("link", "set", self._link, "nomaster")
        try:
            yield
        finally:
            _ip("link", "set", self._link, "master", self._bridge)

    @property
    def prefix(self) -> list[str]:
        """Start of a command that runs on this machine."""
        return ["ip", "netns", "exec", self._name]

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen:
        """Start a program on this machine, in a process group of its own; its log is `<name>.log`."""
        variables = {
            **os.environ, **(environment or {}), "TMPDIR": str(self.directory / "tmp"), "HOME": str(self.directory),
        }  # fmt: skip
        with open(self.directory / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*self.prefix, *self._enter(), *command],
                cwd=self.directory, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _enter(self) -> list[str]:
        """Start of a command that sees the machine's own files."""
        if self._shared is None:
            return []
        hidden = pathlib.Path(os.path.commonpath([self.directory, self._shared]))
        directories = [self.directory, self._shared, _find_closed(hidden) or hidden]
        opened = _find_closed(pathlib.Path(sys.executable).resolve()) or ""
        return ["sh", "-c", _ENTER, "sh", *map(str, directories), str(opened), str(self._user)]

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
def machines(
    count: int,
    directory: pathlib.Path,
    *,
    shared: pathlib.Path | None = None,
    name: str = _NAME,
    network: str = _NETWORK,
) -> Iterator[list[Machine]]:
    """So many machines, while the block lasts; this one is on their network too, as `HOST` in the default network.

    Args:
      count: number of machines.
      directory: of all of them.
      shared: the only directory of tests that all of them see; None if they see all files, as the same user.
      name, network: start of the names of namespaces and links, and of the addresses. Two sets of machines that exist
        at the same time need their own.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise ToolMissing("machines need root and `ip` (iproute2), to make network namespaces: tests are skipped.")
    _clean_up(count, name)
    made: list[Machine] = []
    _ip("link", "add", "name", f"{name}0", "type", "bridge")
    try:
        _ip("addr", "add", f"{network}.1/24", "dev", f"{name}0")
        _ip("link", "set", f"{name}0", "up")
        for number in range(1, count + 1):
            made.append(Machine(number, directory / f"machine-{number}", name, network, shared))
        yield made
    finally:
        for machine in made:
            machine.remove()
        _ip("link", "del", f"{name}0")


def _find_closed(path: pathlib.Path) -> pathlib.Path | None:
    """Return the first directory on the way to a path that only its owner may enter."""
    closed = [folder for folder in path.parents if not folder.stat().st_mode & stat.S_IXOTH]
    return closed[-1] if closed else None


def _clean_up(count: int, prefix: str) -> None:
    """Remove what a session left that was killed."""
    for number in range(1, count + 1):
        name = f"{prefix}-{number}"
        found = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "link", "del", f"{prefix}{number}"], capture_output=True)
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    subprocess.run(["ip", "link", "del", f"{prefix}0"], capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")

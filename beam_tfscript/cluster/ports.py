"""Ports for the tasks of a cluster on this machine, reserved until the cluster ends.

A free port that is found, closed and bound later by TensorFlow may belong to another process by then. So a socket stays
bound to the port, without listening, until the cluster ends. Tested with TensorFlow 1.15, 2.3, 2.15 and 2.21 on Linux:

- TensorFlow turns SO_REUSEPORT off for its server, but gRPC sets SO_REUSEADDR. Linux lets two sockets bind one port if
  both have SO_REUSEADDR and neither listens (https://man7.org/linux/man-pages/man7/socket.7.html). So TensorFlow can
  bind the reserved port. So can a second socket that listens for a while (`reachability.py`). Linux does not give the
  port to a process that asks for any free port, nor to an outgoing connection. A process that binds the port without
  SO_REUSEADDR fails.
- TensorFlow always listens on all interfaces (`0.0.0.0`, which gRPC makes `[::]`), and has no setting for the host. If
  the tasks' addresses are `localhost`, traffic stays on the machine. But every host that reaches the machine reaches
  the port, and TensorFlow's server has no authentication. Keep such machines behind a firewall or in a network
  namespace.
- A task that does not listen yet refuses connections, and gRPC retries them.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping
from types import TracebackType

from beam_tfscript.errors import ScriptEnvironmentError

__all__ = ["HeldPorts", "bypass_proxy", "listen"]

_HOST = "localhost"
# Hosts for which gRPC must not use a proxy.
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# Number of connections that may wait to be accepted; more than peers that probe a task at one time.
_BACKLOG = 1024


class HeldPorts:
    """Ports that no other process gets until `close()`; a context manager.

    Attributes:
      ports: the ports' numbers.

    Args:
      count: number of ports.
      port_range: (first, last) port that may be used; None for any port that the system gives.

    Raises:
      ScriptEnvironmentError: the machine has too few free ports or descriptors.
    """

    def __init__(self, count: int, port_range: tuple[int, int] | None = None):
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                self._sockets.append(_hold() if port_range is None else _hold_in(port_range))
        except OSError as error:
            self.close()
            advice = "Check the limit of open files (ulimit -n) and net.ipv4.ip_local_port_range, or use fewer tasks."
            if port_range is not None:
                advice = f"All others of cluster_ports={port_range[0]}-{port_range[1]} are in use: give a larger range."
            raise ScriptEnvironmentError(
                f"only {len(self._sockets)} of the {count} ports that the cluster needs are free: {error}. {advice}"
            ) from error
        self.ports = tuple(held.getsockname()[1] for held in self._sockets)

    @property
    def addresses(self) -> list[str]:
        """Address of each port, `host:port`, for tasks on this machine."""
        return [f"{_HOST}:{port}" for port in self.ports]

    def close(self) -> None:
        """Release the ports; TensorFlow keeps those that it has bound."""
        for held in self._sockets:
            held.close()

    def __enter__(self) -> HeldPorts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def __repr__(self) -> str:
        is_held = bool(self._sockets) and self._sockets[0].fileno() >= 0
        return f"<HeldPorts {', '.join(map(str, self.ports))}: {'held' if is_held else 'given up'}>"


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a held port, until it is closed, which must be before TensorFlow binds the port.

    Raises:
      OSError: the port cannot be listened on.
    """
    listener = _bind_anywhere(port)
    try:
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def bypass_proxy(environ: Mapping[str, str], hosts: Iterable[str] = ()) -> dict[str, str]:
    """Return the environment variables that keep gRPC from using a proxy for the tasks of a cluster.

    gRPC uses `http_proxy` and similar variables for localhost too, and such a cluster would wait forever
    (https://github.com/grpc/grpc/blob/master/doc/environment_variables.md).

    Args:
      environ: the task's environment variables so far.
      hosts: the hosts of the tasks on other machines.

    Returns:
      The variables to add.
    """
    variables = {"no_proxy": environ.get("no_proxy") or environ.get("NO_PROXY")}
    if environ.get("no_grpc_proxy"):
        # New versions of gRPC read this variable first, and TensorFlow 1.15's does not read it.
        variables["no_grpc_proxy"] = environ["no_grpc_proxy"]
    names = ",".join(dict.fromkeys([*_LOCAL_NAMES, *hosts]))
    return {name: f"{value},{names}" if value else names for name, value in variables.items()}


def _hold() -> socket.socket:
    """Return a socket that is bound to a free port on all interfaces, as TensorFlow's will be."""
    return _bind_anywhere(0)


def _hold_in(port_range: tuple[int, int]) -> socket.socket:
    """Return a socket that is bound to a free port of a range.

    Tried in a random order: several clusters may use the range. Two sockets that are bound and do not listen could
    share a port. So SO_REUSEADDR is set after the port is bound, and only one process can bind it.
    """
    first, last = port_range
    ports = list(range(first, last + 1))
    random.shuffle(ports)
    failed = OSError("the range is empty")
    for port in ports:
        try:
            held = _bind_anywhere(port, is_shared=False)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return held
        except OSError as error:
            failed = error
    raise failed


def _bind_anywhere(port: int, *, is_shared: bool = True) -> socket.socket:
    try:
        return _bind(socket.AF_INET6, "::", port, is_shared)
    except OSError:
        # A machine without IPv6; other errors are raised again here.
        return _bind(socket.AF_INET, "0.0.0.0", port, is_shared)


def _bind(family: socket.AddressFamily, address: str, port: int, is_shared: bool) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            # With IPv4, as gRPC's socket.
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(is_shared))
        held.bind((address, port))
    except OSError:
        held.close()
        raise
    return held

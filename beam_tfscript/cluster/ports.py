"""Ports for the tasks of a cluster on one machine: how many in, ports that stay theirs out.

A port that is picked, closed and bound later by TensorFlow may be another's by then. So a socket stays
bound to it, without listening, until the cluster is over. Seen to work with TensorFlow 1.15, 2.3, 2.15 and
2.21 on Linux:

- TensorFlow turns SO_REUSEPORT off for its server, but gRPC sets SO_REUSEADDR, and Linux lets two sockets
  bind one port where both have set that and neither listens. So TensorFlow binds the port while it is held,
  and nobody else is given it: not who asks for any port, not an outgoing connection (which could even meet
  itself there), and not who binds it without SO_REUSEADDR.
- TensorFlow always listens on all interfaces (`0.0.0.0`, which gRPC makes `[::]`), whatever host the
  cluster names, and has no setting for it. Other tasks are told `localhost`, so traffic stays on the
  machine; but whoever reaches the machine reaches the port, and TensorFlow's server asks nobody who he is.
  Keep such machines behind a firewall or in a network namespace.
- The tasks of a cluster that is held but not up yet refuse connections, which gRPC tries again.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import TracebackType

from beam_tfscript.errors import ScriptEnvironmentError

__all__ = ["HeldPorts", "bypass_proxy"]

_HOST = "localhost"
# What gRPC must not look for behind a proxy.
_LOCAL_NAMES = "localhost,127.0.0.1,::1"


class HeldPorts:
    """Ports that no other process is given until `close()`; a context manager.

    Attributes:
      ports: their numbers.

    Args:
      count: how many.

    Raises:
      ScriptEnvironmentError: the machine has not so many free ports or descriptors.
    """

    def __init__(self, count: int):
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                self._sockets.append(_hold())
        except OSError as error:
            self.close()
            raise ScriptEnvironmentError(
                f"only {len(self._sockets)} of the {count} ports that the cluster needs can be had: {error}. "
                "Look at the limit of open files (ulimit -n) and at net.ipv4.ip_local_port_range, or use fewer tasks."
            ) from error
        self.ports = tuple(held.getsockname()[1] for held in self._sockets)

    @property
    def addresses(self) -> list[str]:
        """`host:port` of each, for tasks on this machine."""
        return [f"{_HOST}:{port}" for port in self.ports]

    def close(self) -> None:
        """Gives up the ports; those that TensorFlow has bound by now stay its own."""
        for held in self._sockets:
            held.close()

    def __enter__(self) -> HeldPorts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def __repr__(self) -> str:
        is_held = bool(self._sockets) and self._sockets[0].fileno() >= 0
        return f"<HeldPorts {', '.join(map(str, self.ports))}: {'held' if is_held else 'given up'}>"


def bypass_proxy(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep gRPC from asking a proxy for the tasks of this machine.

    gRPC heeds `http_proxy` and its like for localhost too, and a cluster behind one waits for ever.

    Args:
      environ: the environment that the task will have otherwise.

    Returns:
      What to add to it.
    """
    variables = {"no_proxy": environ.get("no_proxy") or environ.get("NO_PROXY")}
    if environ.get("no_grpc_proxy"):
        # Newer ones look here first, and TensorFlow 1.15's gRPC not at all.
        variables["no_grpc_proxy"] = environ["no_grpc_proxy"]
    return {name: f"{value},{_LOCAL_NAMES}" if value else _LOCAL_NAMES for name, value in variables.items()}


def _hold() -> socket.socket:
    """A socket bound, on all interfaces as TensorFlow will be, to a port that was free."""
    try:
        return _bind(socket.AF_INET6, "::")
    except OSError:
        return _bind(socket.AF_INET, "0.0.0.0")  # a machine without IPv6, or the same error again


def _bind(family: socket.AddressFamily, address: str) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            # IPv4 with it, as gRPC does.
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, 0))
    except OSError:
        held.close()
        raise
    return held

"""Probes between the machines of a cluster: each task's port answers with a token, by which a peer knows it is reached.

An address may belong to several machines, such as that of a container bridge, so an open port proves nothing. The port
is the one that TensorFlow's server will have: a firewall that stops TensorFlow stops the probe too.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from beam_tfscript.cluster.ports import listen

__all__ = ["Prober", "Target"]

# Time for a connection and its token. A packet that a firewall drops is not answered at all.
_ATTEMPT_S = 5.0
# Pause before an address is tried again: its machine may be slow, or its port not open yet.
_RETRY_S = 1.0
_TOKEN_BYTES = 64


class Target(NamedTuple):
    """A task's address as a peer tries it.

    Attributes:
      host, port: where to connect.
      token: the answer by which the task is known.
    """

    host: str
    port: int
    token: str


class Prober:
    """Answers the probes of peers and probes them, whenever `step` is called; without a thread.

    Args:
      tokens: port -> the token that it answers with; each port is held (`ports.py`).

    Attributes:
      reached: the targets that have answered.

    Raises:
      OSError: a port cannot be listened on.
    """

    def __init__(self, tokens: Mapping[int, str]):
        self.reached: set[Target] = set()
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Target, _Connection] = {}
        self._pause: dict[Target, float] = {}
        self._tried: dict[Target, int] = {}
        try:
            for port, token in tokens.items():
                self._selector.register(listen(port), selectors.EVENT_READ, token.encode("ascii"))
        except OSError:
            self.close()
            raise

    def probe(self, targets: Iterable[Target]) -> None:
        """Probe these targets from now on, until they are reached; forget others that were not."""
        wanted = set(targets)
        for target in set(self._tried) - wanted:
            self._drop(target)
            self._pause.pop(target, None)
            del self._tried[target]
        for target in wanted - set(self._tried):
            self._tried[target] = 0
            self._pause[target] = 0.0

    def is_tried(self, target: Target) -> bool:
        """Return True if the target was reached, or a whole attempt to reach it has failed."""
        return target in self.reached or self._tried.get(target, 0) > 0

    def step(self, timeout_s: float) -> None:
        """Answer and probe for a moment.

        Args:
          timeout_s: the longest wait for something to happen.
        """
        now = time.monotonic()
        for target, at in list(self._pause.items()):
            if at <= now:
                del self._pause[target]
                self._connect(target)
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, bytes):
                assert isinstance(key.fileobj, socket.socket)
                self._answer(key.fileobj, key.data)
            else:
                self._advance(key.data)
        for target, connection in list(self._connections.items()):
            if time.monotonic() > connection.deadline:
                self._fail(target)

    def close(self) -> None:
        """Close all connections and listening sockets."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self._connections.clear()

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, listener: socket.socket, token: bytes) -> None:
        """Send the token to a peer that has connected; a few bytes always fit the socket's buffer."""
        with contextlib.suppress(OSError):
            accepted, _ = listener.accept()
            with accepted:
                accepted.setblocking(False)
                accepted.sendall(token)
                accepted.shutdown(socket.SHUT_WR)

    def _connect(self, target: Target) -> None:
        try:
            # A name is looked up here, which may take as long as the system lets it.
            family, kind, protocol, _, address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)[
                0
            ]
            sock = socket.socket(family, kind, protocol)
        except OSError:
            self._note_failure(target)
            return
        sock.setblocking(False)
        if sock.connect_ex(address) not in (0, errno.EINPROGRESS):
            sock.close()
            self._note_failure(target)
            return
        connection = _Connection(target, sock, time.monotonic() + _ATTEMPT_S)
        self._connections[target] = connection
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _advance(self, connection: _Connection) -> None:
        """Read the answer of a target."""
        try:
            part = connection.sock.recv(_TOKEN_BYTES)
        except BlockingIOError:
            return
        except OSError:  # refused, or reset
            part = b""
        connection.answer += part
        if part and len(connection.answer) < _TOKEN_BYTES:
            return
        target = connection.target
        if connection.answer == target.token.encode("ascii"):
            self._drop(target)
            self.reached.add(target)
        else:
            self._fail(target)

    def _fail(self, target: Target) -> None:
        self._drop(target)
        self._note_failure(target)

    def _note_failure(self, target: Target) -> None:
        self._tried[target] = self._tried.get(target, 0) + 1
        self._pause[target] = time.monotonic() + _RETRY_S

    def _drop(self, target: Target) -> None:
        connection = self._connections.pop(target, None)
        if connection is not None:
            self._selector.unregister(connection.sock)
            connection.sock.close()


class _Connection:
    """A probe on its way."""

    def __init__(self, target: Target, sock: socket.socket, deadline: float):
        self.target = target
        self.sock = sock
        self.deadline = deadline
        self.answer = b""

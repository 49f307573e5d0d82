"""A TCP proxy that cuts the first connections off after some bytes, or holds them: as networks do to any protocol."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ACCEPT_S = 0.1
_IDLE_S = 10.0


class Proxy:
    """Forwards connections to another port.

    Attributes:
      port: where it listens.
      cuts: after how many bytes of answers to cut, a connection each; None lets one through.
      is_stalling: whether a connection is held open instead, and nothing comes any more.
      connections: how many there were.
    """

    def __init__(self, target: tuple[str, int], cuts: list[int | None], is_stalling: bool):
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_ACCEPT_S)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._serve)
        self.port = self._listener.getsockname()[1]
        self.cuts = cuts
        self.is_stalling = is_stalling
        self.connections = 0
        self._accepting.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            limit = self.cuts.pop(0) if self.cuts else None
            thread = threading.Thread(target=self._forward, args=(client, limit))
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Close everything."""
        self._ended.set()
        self._accepting.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _forward(self, client: socket.socket, limit: int | None) -> None:
        with client, socket.create_connection(self._target) as server:
            for end in (client, server):
                end.settimeout(_IDLE_S)
            asking = threading.Thread(target=_copy, args=(client, server, None))
            asking.start()
            if _copy(server, client, limit) and self.is_stalling:
                self._ended.wait(_IDLE_S)
            for end in (client, server):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the other side was first
            asking.join()


def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> bool:
    """Copy until one side ends, or that many bytes have passed; return True if they have."""
    passed = 0
    try:
        while chunk := source.recv(65536 if limit is None else min(65536, limit - passed)):
            target.sendall(chunk)
            passed += len(chunk)
            if passed == limit:
                return True
    except OSError:
        pass  # closed on the other side
    return False


@contextmanager
def proxy(target: tuple[str, int], *, cuts: list[int | None], is_stalling: bool = False) -> Iterator[Proxy]:
    """A proxy that lives as long as the block."""
    server = Proxy(target, cuts, is_stalling)
    try:
        yield server
    finally:
        server.end()

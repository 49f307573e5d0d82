"""The pipeline's end of the channel: frames over one non-blocking socket, both ways, without a thread."""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import time
from collections.abc import Iterator

from beam_tfscript.errors import ProtocolError
from beam_tfscript.runtime.transport import wire

# Poll interval for a process's end, on systems that have no descriptor for it.
_LIVENESS_TICK_S = 0.2
# Longest timeout of one `poll`, whose argument is a C int; a longer wait is several of these.
_LONGEST_WAIT_S = 3600.0
# Most bytes of one read or write: larger ones are no faster, smaller ones cost more system calls.
_READ_BYTES = 1 << 20


class ChannelClosed(Exception):
    """The other process has ended, and all that it sent has been received."""


class Channel:
    """Send and receive frames; receiving also sends queued frames.

    Args:
      sock: connected stream socket; owned by the channel.
      exit_descriptor: becomes readable when the other process ends; None if the system has no such descriptor.
      is_alive: returns True while the other process lives; used if there is no descriptor.

    Attributes:
      heard_at: when the last frame came, on this machine's monotonic clock.
    """

    def __init__(self, sock: socket.socket, exit_descriptor: int | None, is_alive):
        sock.setblocking(False)
        self._sock = sock
        self._exit_descriptor = exit_descriptor
        self._is_alive = is_alive
        self._outbound: collections.deque[memoryview] = collections.deque()
        self._header = bytearray(wire.HEADER_BYTES)
        self._payload: bytearray | None = None
        self._kind = self._count = self._got = 0
        self._num_sent = self._num_received = 0
        self._ended = False
        self.heard_at = time.monotonic()

    def send(self, frame: wire.Frame) -> None:
        """Queue a frame and send as much as the socket takes; `receive` and `flush` send the rest."""
        self._outbound.append(memoryview(wire.pack_header(frame, self._num_sent)))
        self._num_sent += 1
        if frame.payload:
            self._outbound.append(memoryview(frame.payload))
        self._send_queued()

    def receive(self, timeout_s: float) -> wire.Frame | None:
        """Wait for the next frame; a timeout of 0 does one round without waiting.

        Every round sends queued bytes, reads what has come, and checks for the other process's end. So a caller that
        only polls drives the sending too. And it sees a death although a forked child holds the socket open.

        Returns:
          The frame, or None if none came within `timeout_s` seconds.

        Raises:
          ChannelClosed: the other process has ended, and all that it sent was received.
          ProtocolError: the bytes received are not a frame.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._send_queued()
            frame = self._read_frame()
            if frame is None and not self._ended and self._has_exited():
                # Read once more: the process may have written between the read above and its end.
                frame = self._read_frame()
                self._ended = frame is None
            if frame is not None:
                return frame
            if self._ended:
                raise ChannelClosed
            if not self._wait(self._events(), deadline - time.monotonic()):
                return None

    def flush(self, timeout_s: float) -> bool:
        """Send queued bytes until none is left, for at most `timeout_s` seconds.

        Returns:
          True if all is sent. Bytes for a process that has ended count as sent: `receive` reports its end.
        """
        deadline = time.monotonic() + timeout_s
        self._send_queued()
        while self._outbound and not self._has_exited():
            # Not for input too, which is left unread here: the wait would return at once, again and again.
            if not self._wait(select.POLLOUT, deadline - time.monotonic()):
                return False
            self._send_queued()
        return True

    def close(self) -> None:
        """Close the socket; the other end sees the end of the stream."""
        self._sock.close()
        self._ended = True

    def register(self, poll: select.poll) -> float:
        """Register this channel's descriptors for a wait; return the longest such wait in seconds."""
        return self._register(poll, self._events())

    def _events(self) -> int:
        return select.POLLIN | (select.POLLOUT if self._outbound else 0)

    def _register(self, poll: select.poll, events: int) -> float:
        poll.register(self._sock, events)
        if self._exit_descriptor is None:
            return _LIVENESS_TICK_S
        poll.register(self._exit_descriptor, select.POLLIN)
        return float("inf")

    def _wait(self, events: int, timeout_s: float) -> bool:
        """Wait for the socket or the other process's end; return False if the time is up."""
        if timeout_s <= 0:
            return False
        poll = select.poll()
        timeout_s = min(timeout_s, self._register(poll, events), _LONGEST_WAIT_S)
        # Rounded up: a wait of zero would spin until the deadline.
        poll.poll(int(timeout_s * 1000) + 1)
        return True

    def _has_exited(self) -> bool:
        if self._exit_descriptor is None:
            return not self._is_alive()
        poll = select.poll()
        poll.register(self._exit_descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def _send_queued(self) -> None:
        while self._outbound:
            data = self._outbound[0]
            try:
                sent = self._sock.send(data[:_READ_BYTES])
            except BlockingIOError:
                return
            except OSError:
                # The other process has ended. Frames that it sent before are still read: `receive` raises the end.
                self._outbound.clear()
                return
            if sent == len(data):
                self._outbound.popleft()
            else:
                self._outbound[0] = data[sent:]

    def _read_frame(self) -> wire.Frame | None:
        """Read bytes that have come, up to the end of one frame."""
        while not self._ended:
            target = self._header if self._payload is None else self._payload
            if self._got == len(target):
                if self._payload is None:
                    self._start_payload()
                    continue
                return self._finish_frame()
            try:
                step = self._sock.recv_into(memoryview(target)[self._got : self._got + _READ_BYTES])
            except BlockingIOError:
                return None
            except ConnectionResetError:
                step = 0
            if not step:
                self._ended = True
                return None
            self._got += step
        return None

    def _start_payload(self) -> None:
        with _translated():
            self._kind, self._count, length = wire.unpack_header(self._header, self._num_received)
        self._payload = bytearray(length)
        self._got = 0

    def _finish_frame(self) -> wire.Frame:
        assert self._payload is not None
        with _translated():
            wire.check_payload(self._header, self._payload)
        self._num_received += 1
        frame = wire.Frame(self._kind, self._count, self._payload)
        self._payload = None
        self._got = 0
        self.heard_at = time.monotonic()
        return frame


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except wire.WireError as error:
        raise ProtocolError(
            f"the script process sent something that is not a frame ({error}): the script may have written to a file "
            "descriptor it did not open"
        ) from error

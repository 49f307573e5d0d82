"""The pipeline's end of the channel: frames over one non-blocking socket, both ways, without a thread."""

from __future__ import annotations

import collections
import select
import socket
import time

from beam_tfscript.errors import ProtocolError
from beam_tfscript.runtime import wire

# Where the system cannot tell of a process' end through a descriptor, it is asked this often.
_LIVENESS_TICK_S = 0.2
# One read; larger ones do not get faster, smaller ones cost system calls.
_READ_BYTES = 1 << 20
# A header that announces more than this is taken for garbage: protobuf messages end at 2 GiB.
_MAX_PAYLOAD_BYTES = (1 << 31) + (1 << 24)


class ChannelClosed(Exception):
    """The other end is gone and everything it sent has been received."""


class Channel:
    """Sends and receives frames; waiting to receive also sends what is queued.

    Args:
      sock: connected stream socket; owned by the channel.
      exit_descriptor: becomes readable when the other process ends, or None where there is no such thing.
      is_alive: asks whether the other process lives; used where there is no descriptor.
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
        self._ended = False

    def send(self, frame: wire.Frame) -> None:
        """Queues a frame and sends as much as the socket takes; `receive` sends the rest."""
        self._outbound.append(memoryview(wire.pack_header(frame)))
        if frame.payload:
            self._outbound.append(memoryview(frame.payload))
        self._send_queued()

    def receive(self, timeout_s: float) -> wire.Frame | None:
        """Waits for the next frame.

        Returns:
          The frame, or None where none came within `timeout_s` seconds.

        Raises:
          ChannelClosed: the other end is gone, and what it sent was all received.
          ProtocolError: what came is not a frame.
        """
        deadline = time.monotonic() + timeout_s
        dead = False
        while True:
            frame = self._read_frame()
            if frame is not None:
                return frame
            if self._ended or dead:
                raise ChannelClosed
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            dead = self._wait(remaining)

    def close(self) -> None:
        """Closes the socket; the other end sees the end of the stream."""
        self._sock.close()
        self._ended = True

    def register(self, poll: select.poll) -> float:
        """Adds to `poll` what a wait for this channel waits for; returns how long such a wait may be, in seconds."""
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._outbound else 0))
        if self._exit_descriptor is None:
            return _LIVENESS_TICK_S
        poll.register(self._exit_descriptor, select.POLLIN)
        return float("inf")

    def _wait(self, timeout_s: float) -> bool:
        """Waits for the socket or the other process' end; returns whether the process ended."""
        poll = select.poll()
        timeout_s = min(timeout_s, self.register(poll))
        # Rounded up: a wait of zero would spin until the deadline.
        ready = dict(poll.poll(int(timeout_s * 1000) + 1))
        if self._outbound and ready.get(self._sock.fileno(), 0) & select.POLLOUT:
            self._send_queued()
        if self._exit_descriptor is not None:
            return self._exit_descriptor in ready
        return not ready and not self._is_alive()

    def _send_queued(self) -> None:
        while self._outbound:
            data = self._outbound[0]
            try:
                sent = self._sock.send(data[:_READ_BYTES])
            except BlockingIOError:
                return
            except OSError:
                # The other end is gone. What it still sent is worth reading: `receive` tells the end.
                self._outbound.clear()
                return
            if sent == len(data):
                self._outbound.popleft()
            else:
                self._outbound[0] = data[sent:]

    def _read_frame(self) -> wire.Frame | None:
        """Reads what is there, up to the end of one frame."""
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
        try:
            self._kind, self._count, length = wire.unpack_header(self._header)
        except wire.WireError as error:
            raise ProtocolError(
                f"the script process sent something that is not a frame ({error}): the script may have written to a "
                "file descriptor it did not open"
            ) from error
        if length > _MAX_PAYLOAD_BYTES:
            raise ProtocolError(f"the script process announced a frame of {length} bytes; 2 GiB is the most there is")
        self._payload = bytearray(length)
        self._got = 0

    def _finish_frame(self) -> wire.Frame:
        assert self._payload is not None
        frame = wire.Frame(self._kind, self._count, self._payload)
        self._payload = None
        self._got = 0
        return frame

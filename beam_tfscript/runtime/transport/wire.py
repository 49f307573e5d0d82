"""The protocol between the pipeline's process and the script process: frames, both ends.

A frame is a 28-byte header (magic, kind, count, payload length, and two checksums; little-endian) and its payload. The
checksums are CRC-32s: of the frame's number in its direction and the header before it, and of the payload. They are
for what else may write to the channel's descriptor, such as a script that closes or writes to descriptors that it did
not open: a frame that is not whole, or not the next one, is an error, and never a wrong row.
Control frames carry JSON; ROWS and EXAMPLES frames carry `count` records as their lengths (uint32 each)
followed by their bytes, so that both ends cut and join them in bulk.

A run, as the two ends see it:

    pipeline's process                      script process
                         <--- READY         once, when the interpreter is up
    RUN                  --->
                         <--- STARTED       the run's directory is entered; nothing was lost before this
                         <--- ACK           (feeds `bundles` and `stream`) the rows before this position are done, and
                                            what they gave was sent before; so many rows are wanted next
    WINDOW               --->               the rows that follow are of this window
    ROWS ...             --->
    DATASET              --->               (where a whole bundle was wanted) rows in a TFRecord file
    END_BUNDLE           --->               what is there is a batch, however few rows it has
    END_FEED             --->               no more rows
                         <--- EXAMPLES ...  what the script wrote
                         <--- METRICS ...   counters and distributions since the last METRICS
    PROBE (any time)     --->
                         <--- STACK         where the script is
                         <--- DONE | FAILED the end of the run: always a message, never the end of the pipe
                         <--- REPORT ...    what a training says of its progress
                         <--- EXPORT ...    a SavedModel is complete
    INSPECT              --->               (after the run) look at the SavedModel in this directory
                         <--- INSPECTED | FAILED
    CLOSE                --->               the process ends
"""

import json
import socket
import struct
import zlib
from collections import namedtuple

PROTOCOL_VERSION = 3

# Requests to the script process.
RUN = 1
PROBE = 2
CLOSE = 3
ROWS = 4
WINDOW = 5
DATASET = 6
END_BUNDLE = 7
END_FEED = 8
INSPECT = 9
# Reports from the script process.
READY = 16
STARTED = 17
EXAMPLES = 18
METRICS = 19
STACK = 20
DONE = 21
FAILED = 22
ACK = 23
REPORT = 24
EXPORT = 25
INSPECTED = 26

NAMES = {
    RUN: "RUN", PROBE: "PROBE", CLOSE: "CLOSE", ROWS: "ROWS", WINDOW: "WINDOW", DATASET: "DATASET",
    END_BUNDLE: "END_BUNDLE", END_FEED: "END_FEED", READY: "READY", STARTED: "STARTED", EXAMPLES: "EXAMPLES",
    METRICS: "METRICS", STACK: "STACK", DONE: "DONE", FAILED: "FAILED", ACK: "ACK",
    INSPECT: "INSPECT", REPORT: "REPORT", EXPORT: "EXPORT", INSPECTED: "INSPECTED",
}  # fmt: skip

# What an ACK wants next beside a number of rows.
WANT_ANY = 0
WANT_DATASET = (1 << 32) - 1
WANT_MOST = WANT_DATASET - 1  # rows; a batch may be of more
_ACK = struct.Struct("<QI")

_MAGIC = b"BTFS"
_HEADER = struct.Struct("<4sBxxxIQ")
_CHECKSUMS = struct.Struct("<II")
HEADER_BYTES = _HEADER.size + _CHECKSUMS.size
# A header that announces more than this is taken for garbage: protobuf messages end at 2 GiB.
_MAX_PAYLOAD_BYTES = (1 << 31) + (1 << 24)

# A frame holds many records only up to this size: small enough that a slow reader sees progress and
# memory stays flat, large enough that the cost of a frame is nothing beside the cost of its records.
FRAME_TARGET_BYTES = 1 << 20
FRAME_TARGET_RECORDS = 4096

# Python's socket calls take larger buffers, but no system takes more than this in one call.
_SEND_SLICE_BYTES = 1 << 20


class WireError(Exception):
    """The bytes read are not a frame of this protocol, or the stream ended inside one."""


class Frame(namedtuple("Frame", ["kind", "count", "payload"])):
    """One message: its kind, the number of records in it, and its bytes."""

    __slots__ = ()

    @property
    def name(self):
        return NAMES.get(self.kind, "frame kind {}".format(self.kind))

    def json(self):
        """The payload of a control frame."""
        try:
            return json.loads(bytes(self.payload).decode("utf-8"))
        except ValueError as error:
            raise WireError("the payload of {} is not JSON: {}".format(self.name, error)) from error

    def records(self):
        """The records of a ROWS or EXAMPLES frame, as a list of bytes."""
        return unpack_records(self.count, self.payload)


def control_frame(kind, value=None):
    """A frame that carries a JSON value."""
    return Frame(kind, 0, json.dumps(value).encode("utf-8"))


def records_frame(kind, records):
    """A ROWS or EXAMPLES frame of a list of bytes."""
    return Frame(kind, len(records), pack_records(records))


def pack_records(records):
    """The payload of a ROWS or EXAMPLES frame."""
    lengths = struct.pack("<{}I".format(len(records)), *map(len, records))
    return b"".join([lengths] + list(records))


def ack_frame(position, wanted):
    """An ACK: all rows before `position` are done, and `wanted` (or WANT_ANY, WANT_DATASET) are wanted next."""
    return Frame(ACK, 0, _ACK.pack(position, wanted))


def unpack_ack(frame):
    """(position, wanted) of an ACK."""
    return _ACK.unpack(bytes(frame.payload))


def unpack_records(count, payload):
    """Cuts the payload of a ROWS or EXAMPLES frame into its records."""
    start = 4 * count
    if len(payload) < start:
        raise WireError("{} records are announced in a payload of {} bytes".format(count, len(payload)))
    lengths = struct.unpack_from("<{}I".format(count), payload)
    if start + sum(lengths) != len(payload):
        raise WireError(
            "the records' lengths add up to {} bytes, the payload has {}".format(start + sum(lengths), len(payload))
        )
    payload = bytes(payload)
    records = []
    for length in lengths:
        records.append(payload[start : start + length])
        start += length
    return records


def pack_header(frame, number=0):
    """The header of a frame; its payload follows it on the wire.

    Args:
      frame: the frame.
      number: how many frames were sent before it.
    """
    header = _HEADER.pack(_MAGIC, frame.kind, frame.count, len(frame.payload))
    return header + _CHECKSUMS.pack(zlib.crc32(header, number & 0xFFFFFFFF), zlib.crc32(frame.payload))


def unpack_header(header, number=0):
    """(kind, count, payload length) of a header.

    Args:
      header: its bytes.
      number: how many frames were received before it.

    Raises:
      WireError: it is not a header, or not the next one.
    """
    magic, kind, count, length = _HEADER.unpack_from(header)
    if magic != _MAGIC or kind not in NAMES:
        raise WireError("not a frame header: {!r}".format(bytes(header)))
    if _CHECKSUMS.unpack_from(header, _HEADER.size)[0] != zlib.crc32(header[: _HEADER.size], number & 0xFFFFFFFF):
        raise WireError("not the header of frame {}: {!r}".format(number, bytes(header)))
    if length > _MAX_PAYLOAD_BYTES:
        raise WireError("a frame of {} bytes is announced; 2 GiB is the most there is".format(length))
    return kind, count, length


def check_payload(header, payload):
    """Checks that a payload is the one that was sent.

    Raises:
      WireError: it is not.
    """
    if _CHECKSUMS.unpack_from(header, _HEADER.size)[1] != zlib.crc32(payload):
        raise WireError("the checksum of a frame's payload of {} bytes does not match".format(len(payload)))


def send_frame(sock, frame, number=0):
    """Sends one frame over a blocking socket; `number` as for `pack_header`."""
    sock.sendall(pack_header(frame, number))
    payload = memoryview(frame.payload)
    for start in range(0, len(payload), _SEND_SLICE_BYTES):
        sock.sendall(payload[start : start + _SEND_SLICE_BYTES])


def receive_frame(sock, number=0):
    """Receives one frame over a blocking socket; `number` as for `unpack_header`.

    Returns:
      The frame, or None where the other end closed the stream between two frames.

    Raises:
      WireError: the stream ended inside a frame, or holds something else.
    """
    header = _receive_exactly(sock, HEADER_BYTES)
    if header is None:
        return None
    kind, count, length = unpack_header(header, number)
    payload = _receive_exactly(sock, length)
    if payload is None:
        raise WireError("the stream ended before the payload of {}".format(NAMES[kind]))
    check_payload(header, payload)
    return Frame(kind, count, payload)


def _receive_exactly(sock, length):
    """`length` bytes, or None where the stream ends before the first of them."""
    data = bytearray(length)
    view = memoryview(data)
    got = 0
    while got < length:
        try:
            step = sock.recv_into(view[got:], min(length - got, _SEND_SLICE_BYTES))
        except (ConnectionResetError, socket.timeout):
            step = 0
        if not step:
            if not got:
                return None
            raise WireError("the stream ended after {} of {} bytes".format(got, length))
        got += step
    return data

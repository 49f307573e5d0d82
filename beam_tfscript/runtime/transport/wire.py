"""The protocol between the pipeline's process and the script process: frames, both ends.

A frame is a 28-byte header (magic, kind, count, payload length, and two checksums; little-endian) and its payload. The
checksums are CRC-32s: one of the frame's number in its direction and the header before the checksum, one of the
payload. They guard against a script that writes to descriptors which it did not open. A frame that is damaged, or not
the next one, is an error, and never a wrong row.

Control frames carry JSON. ROWS and EXAMPLES frames carry `count` records: first their lengths (uint32 each), then
their bytes. So both ends split and join the records in bulk.

A run, as the two ends see it:

    pipeline's process                      script process
                         <--- READY         once, when the interpreter is up
    RUN                  --->
                         <--- STARTED       the run's directory is entered; nothing was lost before this
                         <--- ACK           (feeds `bundles` and `stream`) the rows before this position are done, and
                                            their outputs were sent before; this many rows are wanted next
    WINDOW               --->               the rows that follow are of this window
    ROWS ...             --->
    DATASET              --->               (where a whole bundle was wanted) rows in a TFRecord file
    END_BUNDLE           --->               the rows sent so far are a batch, however few they are
    END_FEED             --->               no more rows
                         <--- EXAMPLES ...  rows that the script wrote
                         <--- METRICS ...   counters and distributions since the last METRICS
    PROBE (any time)     --->
                         <--- STACK         the Python stack of the script
                         <--- DONE | FAILED the end of the run: always a message, never the end of the pipe
                         <--- REPORT ...    progress of a training
                         <--- EXPORT ...    a SavedModel is complete
    INSPECT              --->               (after the run) describe the SavedModel in this directory
                         <--- INSPECTED | FAILED
    CLOSE                --->               the process ends
"""

import json
import socket
import struct
import zlib
from collections import namedtuple

PROTOCOL_VERSION = 3

# Frames to the script process.
RUN = 1
PROBE = 2
CLOSE = 3
ROWS = 4
WINDOW = 5
DATASET = 6
END_BUNDLE = 7
END_FEED = 8
INSPECT = 9
# Frames from the script process.
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

# Values of `wanted` in an ACK that are not a number of rows.
WANT_ANY = 0
WANT_DATASET = (1 << 32) - 1
# The most rows that an ACK can ask for; a larger batch asks for this many.
WANT_MOST = WANT_DATASET - 1
_ACK = struct.Struct("<QI")

_MAGIC = b"BTFS"
_HEADER = struct.Struct("<4sBxxxIQ")
_CHECKSUMS = struct.Struct("<II")
HEADER_BYTES = _HEADER.size + _CHECKSUMS.size
# A header that announces more is garbage: a protobuf message has at most 2 GiB.
# https://protobuf.dev/programming-guides/proto-limits/
_MAX_PAYLOAD_BYTES = (1 << 31) + (1 << 24)

# A frame of many records is sent at one of these sizes. Larger frames would take more memory, and a slow reader would
# see no progress. With smaller ones the fixed cost per frame would exceed the cost of its records.
FRAME_TARGET_BYTES = 1 << 20
FRAME_TARGET_RECORDS = 4096

# Bytes per socket call. A larger buffer is no faster: the system copies less than this in one call.
_CALL_BYTES = 1 << 20


class WireError(Exception):
    """The bytes read are not a frame of this protocol, or the stream ended inside a frame."""


class Frame(namedtuple("Frame", ["kind", "count", "payload"])):
    """One message: `kind`, `count` (number of records), and `payload` (bytes)."""

    __slots__ = ()

    @property
    def name(self):
        """Name of the frame's kind, for messages."""
        return NAMES.get(self.kind, "frame kind {}".format(self.kind))

    def json(self):
        """Return the JSON value of a control frame.

        Raises:
          WireError: the payload is not JSON.
        """
        try:
            return json.loads(bytes(self.payload).decode("utf-8"))
        except ValueError as error:
            raise WireError("the payload of {} is not JSON: {}".format(self.name, error)) from error

    def records(self):
        """Return the records of a ROWS or EXAMPLES frame, as a list of bytes."""
        return unpack_records(self.count, self.payload)


def control_frame(kind, value=None):
    """Return a frame that carries a JSON value."""
    return Frame(kind, 0, json.dumps(value).encode("utf-8"))


def records_frame(kind, records):
    """Return a ROWS or EXAMPLES frame of a list of bytes."""
    return Frame(kind, len(records), pack_records(records))


def pack_records(records):
    """Return the payload of a ROWS or EXAMPLES frame."""
    lengths = struct.pack("<{}I".format(len(records)), *map(len, records))
    return b"".join([lengths] + list(records))


def ack_frame(position, wanted):
    """Return an ACK frame.

    Args:
      position: number of rows that are done, from the start of the run.
      wanted: number of rows wanted next; or WANT_ANY, WANT_DATASET.
    """
    return Frame(ACK, 0, _ACK.pack(position, wanted))


def unpack_ack(frame):
    """Return (position, wanted) of an ACK frame."""
    return _ACK.unpack(bytes(frame.payload))


def unpack_records(count, payload):
    """Split the payload of a ROWS or EXAMPLES frame into its records.

    Raises:
      WireError: the records' lengths do not fit the payload.
    """
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
    """Return the header of a frame; the payload follows it on the wire.

    Args:
      frame: the frame.
      number: number of frames that were sent before.
    """
    header = _HEADER.pack(_MAGIC, frame.kind, frame.count, len(frame.payload))
    return header + _CHECKSUMS.pack(zlib.crc32(header, number & 0xFFFFFFFF), zlib.crc32(frame.payload))


def unpack_header(header, number=0):
    """Return (kind, count, payload length) of a header.

    Args:
      header: bytes of the header.
      number: number of frames that were received before.

    Raises:
      WireError: the bytes are not a header, or not the next frame's.
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
    """Check a payload against the checksum in its header.

    Raises:
      WireError: the payload is not the one that was sent.
    """
    if _CHECKSUMS.unpack_from(header, _HEADER.size)[1] != zlib.crc32(payload):
        raise WireError("the checksum of a frame's payload of {} bytes does not match".format(len(payload)))


def send_frame(sock, frame, number=0):
    """Send one frame over a blocking socket; `number` as for `pack_header`."""
    sock.sendall(pack_header(frame, number))
    # A view: slices of bytes would copy the payload.
    payload = memoryview(frame.payload)
    for start in range(0, len(payload), _CALL_BYTES):
        sock.sendall(payload[start : start + _CALL_BYTES])


def receive_frame(sock, number=0):
    """Receive one frame over a blocking socket; `number` as for `unpack_header`.

    Returns:
      The frame; None if the other end closed the stream between two frames.

    Raises:
      WireError: the stream ended inside a frame, or the bytes are not a frame.
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
    """Receive `length` bytes; return None if the stream ends before the first of them."""
    data = bytearray(length)
    view = memoryview(data)
    received = 0
    while received < length:
        try:
            step = sock.recv_into(view[received:], min(length - received, _CALL_BYTES))
        except (ConnectionResetError, socket.timeout):
            step = 0
        if not step:
            if not received:
                return None
            raise WireError("the stream ended after {} of {} bytes".format(received, length))
        received += step
    return data

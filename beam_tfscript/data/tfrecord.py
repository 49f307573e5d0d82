"""TFRecord framing, as TensorFlow's `TFRecordDataset` reads it.

Input: serialized records. Output: one block of bytes with each record framed, and the records of such a block again.
A frame is the length (8 bytes), the masked CRC-32C of the length, the record, and the record's masked CRC-32C
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import google_crc32c
import numpy as np

__all__ = ["FRAME_OVERHEAD_BYTES", "frame", "header_of", "iter_records", "mask_crcs", "read", "split"]

FRAME_OVERHEAD_BYTES = 16

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_MASK = 0xA282EAD8


def frame(records: Sequence[bytes]) -> bytes:
    """Return the frames of serialized records, one after the other."""
    count = len(records)
    if not count:
        return b""
    lengths, which = np.unique(np.fromiter(map(len, records), np.int64, count), return_inverse=True)
    crcs = np.fromiter(map(google_crc32c.value, records), np.uint32, count)
    headers = np.frombuffer(b"".join(map(header_of, lengths.tolist())), np.uint8).reshape(-1, _HEADER.size)
    # Between two records are the footer of the first one and the header of the second one.
    between: np.ndarray = np.empty((count + 1, FRAME_OVERHEAD_BYTES), np.uint8)
    between[1:, : _CRC.size] = mask_crcs(crcs).astype("<u4").view(np.uint8).reshape(-1, _CRC.size)
    between[:-1, _CRC.size :] = headers[which]
    parts: list[bytes] = [b""] * (2 * count + 1)
    parts[0::2] = between.view(f"V{FRAME_OVERHEAD_BYTES}")[:, 0].tolist()
    parts[1::2] = records
    parts[0], parts[-1] = parts[0][_CRC.size :], parts[-1][: _CRC.size]
    return b"".join(parts)


def iter_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of framed bytes, and check both checksums of each.

    Args:
      data: frames, one after the other.

    Raises:
      ValueError: a checksum does not match, or the last frame is cut short.
    """
    at = 0
    while at < len(data):
        if len(data) - at < FRAME_OVERHEAD_BYTES:
            raise ValueError(f"The frame at byte {at} is cut short.")
        length, _ = _HEADER.unpack_from(data, at)
        record = data[at + _HEADER.size : at + _HEADER.size + length]
        end = at + _HEADER.size + length
        if data[at : at + _HEADER.size] != header_of(length):
            raise ValueError(f"The length at byte {at} does not match its checksum.")
        if len(data) < end + _CRC.size:
            raise ValueError(f"The frame at byte {at} is cut short.")
        if _CRC.unpack_from(data, end)[0] != _masked(google_crc32c.value(record)):
            raise ValueError(f"The record at byte {at} does not match its checksum.")
        yield record
        at = end + _CRC.size


def split(data: bytes) -> list[bytes]:
    """Return the records of framed bytes without checking them, for bytes that this process has made or checked."""
    records, at = [], 0
    while at < len(data):
        start = at + _HEADER.size
        end = start + _LENGTH.unpack_from(data, at)[0]
        records.append(data[start:end])
        at = end + _CRC.size
    return records


def read(path: str) -> list[bytes]:
    """Return the records of a TFRecord file.

    Args:
      path: a local file, not compressed.

    Raises:
      ValueError: the file is damaged or cut short.
    """
    with open(path, "rb") as file:
        return list(iter_records(file.read()))


def mask_crcs(crcs: np.ndarray) -> np.ndarray:
    """Return checksums, an array of uint32, as a frame has them."""
    return ((crcs >> np.uint32(15)) | (crcs << np.uint32(17))) + np.uint32(_MASK)


def header_of(length: int) -> bytes:
    """Return the header of the frame of a record of `length` bytes."""
    packed = struct.pack("<Q", length)
    return packed + _CRC.pack(_masked(google_crc32c.value(packed)))


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF

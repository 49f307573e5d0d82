"""Search for frames in the bytes of a TFRecord file: a range of the file in, positions that look like frames out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np

from beam_tfscript.data.tfrecord import mask_crcs

__all__ = ["HEADER_BYTES", "READ_BYTES", "positions_like_headers", "read_up_to"]

HEADER_BYTES = 12
# Size of a read. A larger one would take more memory, and is no faster.
READ_BYTES = 1 << 20

_POLYNOMIAL = 0x82F63B78  # of CRC-32C


def positions_like_headers(file: IO[bytes], start: int, stop: int) -> Iterator[int]:
    """Yield the positions in a range whose bytes are a length below 4 GiB and its checksum."""
    file.seek(start)
    data = b""
    while start < stop:
        data += read_up_to(file, READ_BYTES)
        count = min(len(data) - HEADER_BYTES + 1, stop - start)
        if count <= 0:
            return
        found = _header_positions(np.frombuffer(data, np.uint8), count)
        yield from (start + found).tolist()
        start += count
        data = data[count:]


def read_up_to(file: IO[bytes], size: int) -> bytes:
    """Read up to `size` bytes: one read of a compressed file may return fewer before its end."""
    part = file.read(size)
    if len(part) == size or not part:
        return part
    parts = [part]
    size -= len(part)
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _header_positions(data: np.ndarray, count: int) -> np.ndarray:
    """Return the first `count` positions of bytes that are headers, without those that are not."""
    zero = data == 0
    high_bytes = [zero[byte : byte + count] for byte in range(4, 8)]
    found = np.flatnonzero(np.logical_and.reduce(high_bytes))
    crcs: np.ndarray = np.full(len(found), 0xFFFFFFFF, np.uint32)
    for byte in range(8):
        crcs = _CRC_TABLE[(crcs ^ data[found + byte]) & 0xFF] ^ (crcs >> np.uint32(8))
    checksums = data[found[:, None] + np.arange(8, 12)].view("<u4")[:, 0]
    return found[mask_crcs(~crcs) == checksums]


def _make_crc_table() -> np.ndarray:
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_CRC_TABLE = _make_crc_table()

"""Checksum of serialized Examples that depends neither on their order nor on the order of features in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["RowsChecksum"]

# An odd number has an inverse modulo 2**64, so that the hash of a range comes from the hashes of two prefixes.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))
_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
_LENGTH = np.uint64(0x94D049BB133111EB)
# Tag of `Example.features` and of each of its entries: field 1, a length and so many bytes.
_TAG = 0x0A
_VARINT_BYTES = 10


class RowsChecksum:
    """Sums over the rows, so that the same rows in any order give the same checksum; `str()` is its text.

    A row's hash is a sum over its features, because their order in the serialized map differs from time to time
    (protobuf: "map ordering is not specified", https://protobuf.dev/programming-guides/encoding/#maps). Bytes that are
    no `tf.train.Example` are hashed as a whole.
    """

    def __init__(self) -> None:
        self._sums: np.ndarray = np.zeros(3, np.uint64)

    def add(self, records: Sequence[bytes]) -> None:
        """Add serialized rows."""
        lengths = np.fromiter(map(len, records), np.int64, len(records))
        hashes = _mix(_hash_records(b"".join(records), lengths))
        # The sum of squares and the count make it unlikely that two different sets of rows have equal sums.
        self._sums += np.array([hashes.sum(), (hashes * hashes).sum(), len(records)], np.uint64)

    def add_sums(self, text: str) -> None:
        """Add the rows of another checksum, given as its text."""
        self._sums += np.array([int(value, 16) for value in text.split("-")], np.uint64)

    def __str__(self) -> str:
        return "-".join(f"{int(value):x}" for value in self._sums)


def _hash_records(joined: bytes, lengths: np.ndarray) -> np.ndarray:
    """Return a uint64 hash per record, which does not depend on the order of an Example's features.

    Args:
      joined: the records' bytes, one record after the other.
      lengths: int64, shape [records]: number of bytes in each.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    # Padded, so that a varint that is cut short reads zeros.
    data = np.frombuffer(joined + bytes(_VARINT_BYTES + 1), np.uint8)
    ranges = _RangeHashes(data)
    at, inner_ends, is_example = _read_field(data, starts, ends)
    is_example &= inner_ends == ends
    hashes = np.where(is_example, np.uint64(0), ranges.of(starts, ends))
    rows = np.flatnonzero(is_example & (at < ends))
    at = at[rows]
    while len(rows):
        begins, stops, is_entry = _read_field(data, at, ends[rows])
        # Bytes that are no entry are hashed as a whole, to the end of the row.
        begins, stops = np.where(is_entry, begins, at), np.where(is_entry, stops, ends[rows])
        hashes[rows] += ranges.of(begins, stops)
        is_left = stops < ends[rows]
        rows, at = rows[is_left], stops[is_left]
    return hashes


def _read_field(data: np.ndarray, at: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the starts and the ends of the fields of tag 1 at each position, and whether each ends within its row."""
    position = np.minimum(at + 1, len(data) - 1)
    length: np.ndarray = np.zeros(len(at), np.int64)
    is_open = data[np.minimum(at, len(data) - 1)] == _TAG
    is_field = is_open.copy()
    for shift in range(0, 7 * 4, 7):  # a row of 256 MiB or more is hashed as a whole
        byte = data[np.minimum(position, len(data) - 1)].astype(np.int64)
        length += np.where(is_open, (byte & 127) << shift, 0)
        position = position + is_open
        is_open &= byte >= 128
    stops = position + length
    return position, stops, is_field & ~is_open & (stops <= ends)


class _RangeHashes:
    """Polynomial hashes of ranges of bytes, modulo 2**64."""

    def __init__(self, data: np.ndarray):
        powers = np.full(len(data), _BASE)
        powers[0] = 1
        np.cumprod(powers, out=powers)
        self._prefixes: np.ndarray = np.zeros(len(data) + 1, np.uint64)
        np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers, out=self._prefixes[1:])

    def of(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return the hash of each range, mixed with its length."""
        hashes = (self._prefixes[ends] - self._prefixes[starts]) * _INVERSE ** starts.astype(np.uint64)
        return _mix(hashes + (ends - starts).astype(np.uint64) * _LENGTH)


def _mix(hashes: np.ndarray) -> np.ndarray:
    """Mix the bits of each hash, so that sums of hashes depend on all of them."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MULTIPLIER
    return hashes ^ (hashes >> np.uint64(27))

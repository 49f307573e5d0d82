"""Digest of a contender's outputs: (id, score) pairs in, three figures out.

The number of rows and a checksum show whether two contenders made the same predictions, in any order. A row's score is
weighted by the row's number. So scores that went to the wrong rows are found too.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

ID_PREFIX = b"row-"
ID_BYTES = 13  # "row-" and nine digits
_BLOCK_ROWS = 4096  # rows per digest: fewer would cost the contenders time, more would cost them memory


@dataclasses.dataclass(frozen=True)
class Digest:
    """Count and checksums of a contender's rows.

    Attributes:
      rows: number of rows.
      checksum: weighted sum of all scores.
      first_checksum: weighted sum over the rows that each contender had; slow contenders have fewer rows.
    """

    rows: int = 0
    checksum: float = 0.0
    first_checksum: float = 0.0

    def __add__(self, other: Digest) -> Digest:
        return Digest(
            self.rows + other.rows,
            self.checksum + other.checksum,
            self.first_checksum + other.first_checksum,
        )


def digest_block(ids: Sequence[bytes] | Sequence[str], scores: Sequence[float], first_rows: int) -> Digest:
    """Return the digest of some rows.

    Args:
      ids: the rows' ids, such as `row-000000123`.
      scores: one score per row.
      first_rows: rows of a lower number count in `first_checksum`.
    """
    text = np.asarray(ids, dtype=f"S{ID_BYTES}")
    numbers = np.char.replace(text, ID_PREFIX, b"").astype(np.int64)
    weighted = np.asarray(scores, dtype=np.float64) * (1 + numbers % 97)
    return Digest(len(numbers), float(weighted.sum()), float(weighted[numbers < first_rows].sum()))


def digest_csv(path: str, first_rows: int) -> Digest:
    """Return the digest of a file of `id,score` lines."""
    with open(path, "rb") as lines:
        pairs = [line.rstrip().split(b",") for line in lines]
    return digest_block([pair[0] for pair in pairs], [float(pair[1]) for pair in pairs], first_rows)


def find_id(example: bytes) -> bytes:
    """Return the id that a serialized Example of the workload holds.

    Some peers return their input. Parsing the Example would cost them several microseconds per row, so this searches
    for the id's bytes.
    """
    start = example.index(ID_PREFIX)
    return example[start : start + ID_BYTES]


class _DigestRows(beam.DoFn):
    """DoFn: elements -> one Digest per bundle."""

    def __init__(self, pair: Callable[[Any], tuple[Any, float]], first_rows: int):
        self._pair = pair
        self._first_rows = first_rows

    def start_bundle(self) -> None:
        self._ids: list[Any] = []
        self._scores: list[float] = []
        self._digest = Digest()

    def process(self, element: Any) -> None:
        row_id, score = self._pair(element)
        self._ids.append(row_id)
        self._scores.append(score)
        if len(self._ids) == _BLOCK_ROWS:
            self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self._flush()
        yield WindowedValue(self._digest, 0, [GlobalWindow()])

    def _flush(self) -> None:
        if self._ids:
            self._digest += digest_block(self._ids, self._scores, self._first_rows)
            self._ids, self._scores = [], []


class _CountRows(beam.DoFn):
    """DoFn: elements -> one Digest per bundle, of their number only."""

    def start_bundle(self) -> None:
        self._rows = 0

    def process(self, element: Any) -> None:
        self._rows += 1

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield WindowedValue(Digest(rows=self._rows), 0, [GlobalWindow()])


class WriteDigest(beam.PTransform):
    """Transform: elements -> a JSON file with the digest of all of them.

    Args:
      path: path of the file.
      pair: function, element -> (id, score); None to count the elements only.
      first_rows: see `Digest.first_checksum`.
    """

    def __init__(self, path: str, *, pair: Callable[[Any], tuple[Any, float]] | None, first_rows: int):
        super().__init__()
        self._path = path
        self._pair = pair
        self._first_rows = first_rows

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        digest = _CountRows() if self._pair is None else _DigestRows(self._pair, self._first_rows)
        return (
            elements
            | "DigestBundle" >> beam.ParDo(digest)
            | "AddUp" >> beam.CombineGlobally(_add_up)
            | "Write" >> beam.Map(write_digest, path=self._path)
        )


def write_digest(digest: Digest, path: str) -> None:
    """Write a digest as JSON, atomically."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(digest), file)
    os.replace(path + ".part", path)


def read_digest(path: str) -> Digest:
    """Read a digest that `write_digest` wrote."""
    with open(path, encoding="utf-8") as file:
        return Digest(**json.load(file))


def _add_up(digests: Iterable[Digest]) -> Digest:
    return sum(digests, Digest())

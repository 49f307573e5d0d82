"""Rows gathered and encoded in bulk: how many at a time, what is counted, what is bad."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from typing import Any

from apache_beam.pvalue import TaggedOutput

from beam_tfscript import metrics
from beam_tfscript.data.encoding import Encoded, RowEncoder
from beam_tfscript.data.features import Rounding
from beam_tfscript.dofns.dead_letters import BadRecords

_LOG = logging.getLogger(__name__)

# The vectorised path is at its best from some thousand rows on; more would only hold memory.
_MAX_ROWS = 4096
# The first rows of a bundle are of unknown size.
_FIRST_ROWS = 64
_TARGET_BYTES = 2 << 20


# (encoder, column, whether its values become infinite) of which the log has been told in this process.
_warned: set[tuple[str, str, bool]] = set()


class RowGatherer:
    """Encodes the rows of a bundle, some thousand at a time.

    Args:
      encoder: what encodes them.
      bad: what to do with rows that do not fit; None fails the bundle.

    Attributes:
      limit: how many rows to gather: at most twice as many as last time, and about two mebibytes of Examples.
    """

    def __init__(self, encoder: RowEncoder, bad: BadRecords | None):
        self.limit = _FIRST_ROWS
        self._encoder = encoder
        self._bad = bad

    def encode(self, rows: Any) -> Encoded:
        """Encodes and counts rows, or an Arrow batch.

        Raises:
          RowError: a row does not fit, and bad ones are not let through.
        """
        encoded = self._encoder.encode(rows, keep_going=self._bad is not None)
        size = sum(map(len, encoded.examples))
        count = len(encoded.examples)
        metrics.add("rows_in", count)
        metrics.add("bytes_in", size)
        for name, rounding in encoded.roundings.items():
            metrics.add("doubles_rounded", rounding.rounded)
            metrics.add("doubles_infinite", rounding.infinite)
            _warn_of_rounding(self._encoder.key, name, rounding)
        if count:
            self.limit = max(1, min(2 * self.limit, _TARGET_BYTES * count // max(size, 1), _MAX_ROWS))
        return encoded

    def encode_batch(self, batch: Any) -> Iterator[tuple[Any, Encoded]]:
        """Encodes an Arrow batch or table in slices, and yields each slice with what it has become."""
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, self.limit)
            start += part.num_rows
            yield part, self.encode(part)

    def record(self, row: Any, error: Exception) -> TaggedOutput:
        """The bad record of a row."""
        assert self._bad is not None
        metrics.add("rows_bad")
        return self._bad.record(row, error)


def _warn_of_rounding(key: str, name: str, rounding: Rounding) -> None:
    """Warns once per transform and column, and apart from that once where values become infinite."""
    found = []
    if rounding.example is not None:
        (held,) = struct.unpack("f", struct.pack("f", rounding.example))
        found.append((False, f"values lose digits, such as {rounding.example!r}, which the script reads as {held!r}"))
    if rounding.overflow is not None:
        found.append((True, f"values beyond 3.4e38 become infinite, such as {rounding.overflow!r}"))
    for is_infinite, what in found:
        if (key, name, is_infinite) not in _warned:
            _warned.add((key, name, is_infinite))
            _LOG.warning(
                "Column %r is double, and an Example holds 32-bit floats: %s. Make the column float64 in input_schema "
                "to keep them exactly, or float where 32 bits are meant.",
                name,
                what,
            )

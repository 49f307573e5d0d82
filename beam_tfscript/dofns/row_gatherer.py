"""Encoding of gathered rows in bulk: how many at a time, with counters, bad records and warnings."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from typing import Any

from apache_beam.pvalue import TaggedOutput

from beam_tfscript import metrics
from beam_tfscript.data.encoding import Encoded, RowEncoder
from beam_tfscript.data.example_chunk import ExampleChunk, size_of
from beam_tfscript.data.features import Rounding
from beam_tfscript.dofns.dead_letters import DeadLetters

_LOG = logging.getLogger(__name__)

# The vectorised encoder is fastest from some thousand rows on; more rows would only use more memory.
_MAX_ROWS = 4096
# The size of a bundle's first rows is unknown: a few of them tell it.
_FIRST_ROWS = 64
_TARGET_BYTES = 2 << 20

# (key of the encoder, column, True for the warning of infinite values) of each warning that this process has logged.
_warned: set[tuple[str, str, bool]] = set()


class RowGatherer:
    """Encodes the rows of a bundle, some thousand at a time.

    Args:
      encoder: encoder of the rows.
      dead_letters: settings for rows that do not fit; None fails the bundle.

    Attributes:
      limit: number of rows to gather for the next call: at most twice the last number, and about 2 MiB of Examples.
    """

    def __init__(self, encoder: RowEncoder, dead_letters: DeadLetters | None):
        self.limit = _FIRST_ROWS
        self._encoder = encoder
        self._dead_letters = dead_letters

    def encode(self, rows: Any) -> Encoded:
        """Encode and count a list of rows, an Arrow batch, or a chunk of Examples.

        Raises:
          RowError: a row does not fit the input schema, and there are no dead letters.
        """
        encoded = self._encoder.encode(rows, keep_going=self._dead_letters is not None)
        size = size_of(encoded.examples)
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
        """Encode an Arrow batch or table, or a chunk, in slices; yield each slice with its encoded rows."""
        # A chunk nearly always has a good size where it was made, and would be copied for another one.
        is_small = isinstance(batch, ExampleChunk) and batch.size_bytes <= 2 * _TARGET_BYTES
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, _MAX_ROWS if is_small else self.limit)
            start += part.num_rows
            yield part, self.encode(part)

    def record(self, row: Any, error: Exception) -> TaggedOutput:
        """Count a row as bad, and return its bad record.

        Raises:
          Exception: `error` itself, if dead letters do not cover its class.
        """
        assert self._dead_letters is not None
        metrics.add("rows_bad")
        return self._dead_letters.record(row, error)


def _warn_of_rounding(key: str, name: str, rounding: Rounding) -> None:
    """Warn of digits lost, and of values that become infinite: once each per transform and column."""
    losses = []
    if rounding.example is not None:
        (rounded,) = struct.unpack("f", struct.pack("f", rounding.example))
        losses.append(
            (False, f"values lose digits, such as {rounding.example!r}, which the script reads as {rounded!r}")
        )
    if rounding.overflow is not None:
        losses.append((True, f"values beyond 3.4e38 become infinite, such as {rounding.overflow!r}"))
    for is_infinite, loss in losses:
        if (key, name, is_infinite) not in _warned:
            _warned.add((key, name, is_infinite))
            _LOG.warning(
                "Column %r is double, and an Example holds 32-bit floats: %s. Make the column float64 in input_schema "
                "to keep its values exactly, or float if 32 bits are enough.",
                name,
                loss,
            )

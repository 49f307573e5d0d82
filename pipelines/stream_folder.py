"""Unbounded source of files that keep arriving in a folder: a folder in, rows with event times out.

A file is read once, as a whole, when its name appears. So write a file under another name, such as `NAME.jsonl.part`,
which the source ignores, and rename it to `NAME.jsonl`. In an object store a file appears as a whole anyway. The source
remembers a name while its file is in the folder. A file that was read may be deleted at any time.
"""

# No postponed annotations here: Beam reads those of `process` as type hints.
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Duration, Timestamp

__all__ = ["END", "SUFFIX", "WatchFolder"]

_LOGGER = logging.getLogger(__name__)

SUFFIX = ".jsonl"
# Name of the file that ends the stream.
END = "END"


class WatchFolder(beam.PTransform):
    """Rows of all files that are in a folder, and of those that arrive later.

    The watermark is the newest event time less `max_delay_s`. Without new files it does not advance.

    Args:
      folder: path on any file system that Beam reads, visible to all workers.
      parse: function, line -> (event time in seconds, row). A line for which it raises ValueError, KeyError or
        TypeError is logged, counted as `bad_lines`, and left out.
      max_delay_s: seconds by which a row may be older than the newest row and still be in time.
      poll_s: seconds between two polls of the folder.

    Attributes:
      reader: the DoFn that reads the folder.
    """

    def __init__(
        self, folder: str, *, parse: Callable[[str], tuple[float, Any]], max_delay_s: float = 0, poll_s: float = 1
    ):
        super().__init__()
        self._folder = folder
        self.reader = _ReadFolder(parse, max_delay_s, poll_s)

    def expand(self, begin: Any) -> beam.PCollection:
        """Return the rows: one element, the folder, is read without end."""
        return begin | "Folder" >> beam.Create([self._folder]) | "Read" >> beam.ParDo(self.reader)


class _Listing(NamedTuple):
    """Names that a poll of the folder found. Not a bare set: Beam takes an empty restriction for the end."""

    names: frozenset[str]


class _FolderTracker(RestrictionTracker):
    """Tracker whose restriction is the listing of the last poll; a claim is the next poll's listing."""

    def __init__(self, taken: _Listing):
        self._taken = taken
        self._is_split = False

    def current_restriction(self) -> _Listing:
        return self._taken

    def current_progress(self) -> RestrictionProgress:
        return RestrictionProgress(completed=len(self._taken.names), remaining=1)

    def try_claim(self, position: _Listing) -> bool:
        if self._is_split:
            return False
        self._taken = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[_Listing, _Listing] | None:
        if fraction_of_remainder or self._is_split or END in self._taken.names:
            return None  # future files have no order by which they could be split
        self._is_split = True
        return self._taken, self._taken

    def check_done(self) -> None:
        if not self._is_split and END not in self._taken.names:
            raise ValueError("the folder's stream has not ended, and its rest was not deferred to a later bundle.")

    def is_bounded(self) -> bool:
        return False


class _Listings(RestrictionProvider):
    def initial_restriction(self, element: str) -> _Listing:
        return _Listing(frozenset())

    def create_tracker(self, restriction: _Listing) -> _FolderTracker:
        return _FolderTracker(restriction)

    def restriction_size(self, element: str, restriction: _Listing) -> int:
        return 1

    def truncate(self, element: str, restriction: _Listing) -> None:
        return None  # drained: no further poll


class _ReadFolder(beam.DoFn):
    LISTINGS = _Listings()

    def __init__(self, parse: Callable[[str], tuple[float, Any]], max_delay_s: float, poll_s: float):
        self._parse = parse
        self._max_delay_s = max_delay_s
        self._poll_s = poll_s
        self._bad_lines = Metrics.counter("stream_folder", "bad_lines")
        self._next_poll_s = 0.0

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        folder: str,
        tracker: Any = beam.DoFn.RestrictionParam(LISTINGS),  # noqa: B008 - Beam's way to request the tracker
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),  # noqa: B008
    ) -> Iterator[Any]:
        # Beam 2.62's Flink runner calls this a hundred times per second, whatever delay was requested, and each call
        # leaks some of its memory.
        time.sleep(max(0.0, self._next_poll_s - time.monotonic()))
        self._next_poll_s = time.monotonic() + self._poll_s
        taken = tracker.current_restriction().names
        found = _names_in(folder)
        if not tracker.try_claim(_Listing(found)):
            return
        newest = None
        for name in sorted(found - taken - {END}):
            for at_s, row in self._rows_of(FileSystems.join(folder, name)):
                newest = at_s if newest is None else max(newest, at_s)
                yield TimestampedValue(row, at_s)
        if END in found:
            watermark.set_watermark(MAX_TIMESTAMP)
            return
        if newest is not None:
            reached = Timestamp.of(newest) - Duration.of(self._max_delay_s)
            if watermark.current_watermark() is None or reached > watermark.current_watermark():
                watermark.set_watermark(reached)
        tracker.defer_remainder(Duration.of(self._poll_s))

    def _rows_of(self, path: str) -> Iterator[tuple[float, Any]]:
        with FileSystems.open(path) as file:
            lines = file.read().decode("utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                yield self._parse(line)
            except (ValueError, KeyError, TypeError) as error:
                self._bad_lines.inc()
                _LOGGER.warning("%s, line %d is left out: %s: %s", path, number, type(error).__name__, error)


def _names_in(folder: str) -> frozenset[str]:
    (found,) = FileSystems.match([FileSystems.join(folder, "*")])
    names = (FileSystems.split(file.path)[1] for file in found.metadata_list)
    return frozenset(name for name in names if name == END or name.endswith(SUFFIX))

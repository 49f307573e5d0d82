"""Reads files that keep arriving in a folder, as an unbounded source: a folder in, rows with event times out.

A file is taken once, whole, when its name appears. So write it under another name and rename it into place: to
`NAME.jsonl` from `NAME.jsonl.part`, say, which is not looked at. In an object store a file appears whole anyway. Its
name is remembered for as long as it is in the folder: what was taken may be deleted at any time.
"""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
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
# A file of this name says that no more come: the stream ends in order.
END = "END"


class WatchFolder(beam.PTransform):
    """The lines of all files that are in a folder, and of those that come.

    The watermark is the newest event time less `max_delay_s`, and stands still where no files come.

    Args:
      folder: on any file system that Beam reads, seen by all workers.
      parse: line -> (event time in seconds, row). A line that it raises ValueError or KeyError for is logged,
        counted as `bad_lines`, and left out.
      max_delay_s: how much older than the newest row a row may be and still be in time.
      poll_s: how often the folder is looked at.

    Attributes:
      reader: the DoFn that reads it.
    """

    def __init__(
        self, folder: str, *, parse: Callable[[str], tuple[float, Any]], max_delay_s: float = 0, poll_s: float = 1
    ):
        super().__init__()
        self._folder = folder
        self.reader = _ReadFolder(parse, max_delay_s, poll_s)

    def expand(self, begin: Any) -> beam.PCollection:
        """One element, the folder, which never ends."""
        return begin | "Folder" >> beam.Create([self._folder]) | "Read" >> beam.ParDo(self.reader)


class _Look(NamedTuple):
    """What a look at the folder found. Not the bare set: Beam takes what is empty for the end."""

    names: frozenset[str]


class _FolderTracker(RestrictionTracker):
    """What was taken: what the last look found. What is claimed is the next look."""

    def __init__(self, taken: _Look):
        self._taken = taken
        self._is_split = False

    def current_restriction(self) -> _Look:
        return self._taken

    def current_progress(self) -> RestrictionProgress:
        return RestrictionProgress(completed=len(self._taken.names), remaining=1)

    def try_claim(self, position: _Look) -> bool:
        if self._is_split:
            return False
        self._taken = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[_Look, _Look] | None:
        if fraction_of_remainder or self._is_split or END in self._taken.names:
            return None  # what is to come is in no order that could be divided
        self._is_split = True
        return self._taken, self._taken

    def check_done(self) -> None:
        if not self._is_split and END not in self._taken.names:
            raise ValueError("the folder's stream has not ended, and what is to come was not left to a later bundle.")

    def is_bounded(self) -> bool:
        return False


class _Looks(RestrictionProvider):
    def initial_restriction(self, element: str) -> _Look:
        return _Look(frozenset())

    def create_tracker(self, restriction: _Look) -> _FolderTracker:
        return _FolderTracker(restriction)

    def restriction_size(self, element: str, restriction: _Look) -> int:
        return 1

    def truncate(self, element: str, restriction: _Look) -> None:
        return None  # drained: no further look


class _ReadFolder(beam.DoFn):
    LOOKS = _Looks()

    def __init__(self, parse: Callable[[str], tuple[float, Any]], max_delay_s: float, poll_s: float):
        self._parse = parse
        self._max_delay_s = max_delay_s
        self._poll_s = poll_s
        self._bad_lines = Metrics.counter("stream_folder", "bad_lines")
        self._next_look_s = 0.0

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        folder: str,
        tracker: Any = beam.DoFn.RestrictionParam(LOOKS),  # noqa: B008 - Beam's way to ask for it
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider()),  # noqa: B008
    ) -> Iterator[Any]:
        # Beam 2.62's Flink runner is back a hundred times a second, however long a wait it was asked for, and keeps
        # something of each time in its memory.
        time.sleep(max(0.0, self._next_look_s - time.monotonic()))
        self._next_look_s = time.monotonic() + self._poll_s
        taken = tracker.current_restriction().names
        found = _names_in(folder)
        if not tracker.try_claim(_Look(found)):
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

"""Where gathered rows are in time: windowed values in, their windows and timestamps out, by row or by window."""

from __future__ import annotations

import array
from collections.abc import Callable, Collection
from typing import Any

from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue


class RowPlaces:
    """Windows and timestamps of rows, in the rows' order.

    The windowed values themselves are not kept: Python's garbage collector looks at each such object that lives a
    while, which took a quarter of the time of a pipeline of small rows.

    Attributes:
      micros: the timestamps, in microseconds.
    """

    def __init__(self) -> None:
        self.micros = array.array("q")
        self._windows: list[tuple[Any, ...]] = []
        self._keep_windows: Callable[[tuple[Any, ...]], None] = self._windows.append
        self._keep_micros: Callable[[int], None] = self.micros.append

    def add(self, place: WindowedValue) -> None:
        """Takes note of one row's place."""
        self._keep_windows(place.windows)
        self._keep_micros(place.timestamp_micros)

    def of_row(self, index: int) -> WindowedValue:
        """The place of one row."""
        return WindowedValue(None, Timestamp(micros=self.micros[index]), self._windows[index])

    def without(self, bad: Collection[int]) -> RowPlaces:
        """The places of the rows that are not in `bad`."""
        if not bad:
            return self
        good = RowPlaces()
        for index, windows in enumerate(self._windows):
            if index not in bad:
                good._keep_windows(windows)
                good._keep_micros(self.micros[index])
        return good

    def by_window(self) -> list[tuple[Any, list[int] | None]]:
        """Each window with the indices of its rows, None for all of them; a row may be in several windows."""
        if not self._windows:
            return []
        windows = self._windows[0]
        if len(windows) == 1 and self._windows.count(windows) == len(self._windows):
            return [(windows[0], None)]
        indices: dict[Any, list[int]] = {}
        for index, windows in enumerate(self._windows):
            for window in windows:
                indices.setdefault(window, []).append(index)
        return list(indices.items())


def choose(values: Any, indices: list[int] | None) -> Any:
    """Those of the values that have the indices; all for None."""
    if indices is None:
        return values
    chosen = [values[index] for index in indices]
    return array.array("q", chosen) if isinstance(values, array.array) else chosen

"""Windows and timestamps of rows: windowed values in; windows and timestamp per row, and rows per window, out."""

from __future__ import annotations

import array
from collections.abc import Callable, Collection
from typing import Any

from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue


class RowWindows:
    """Windows and timestamps of rows, in the order of the rows.

    The windowed values themselves are not kept. Python's garbage collector visits each such object that lives for a
    while, which took a quarter of the time of a pipeline of small rows.

    Attributes:
      timestamps_micros: timestamps in microseconds, an `array` of int64.
    """

    def __init__(self) -> None:
        self.timestamps_micros = array.array("q")
        self._windows: list[tuple[Any, ...]] = []
        # Looked up once: `add` runs per row.
        self._append_windows: Callable[[tuple[Any, ...]], None] = self._windows.append
        self._append_micros: Callable[[int], None] = self.timestamps_micros.append

    def add(self, windowed_value: WindowedValue) -> None:
        """Append the windows and the timestamp of the next row."""
        self._append_windows(windowed_value.windows)
        self._append_micros(windowed_value.timestamp_micros)

    def of_row(self, index: int) -> WindowedValue:
        """Return the windows and the timestamp of one row, as a windowed value of None."""
        return WindowedValue(None, Timestamp(micros=self.timestamps_micros[index]), self._windows[index])

    def without(self, indices: Collection[int]) -> RowWindows:
        """Return the windows and timestamps of the rows without those at the indices."""
        if not indices:
            return self
        rest = RowWindows()
        for index, windows in enumerate(self._windows):
            if index not in indices:
                rest._append_windows(windows)
                rest._append_micros(self.timestamps_micros[index])
        return rest

    def by_window(self) -> list[tuple[Any, list[int] | None]]:
        """Return each window with the indices of its rows; None stands for all rows.

        A row may be in several windows.
        """
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


def values_at(values: Any, indices: list[int] | None) -> Any:
    """Return the values at the indices, as a list or an array like `values`; all values if `indices` is None."""
    if indices is None:
        return values
    found = [values[index] for index in indices]
    return array.array("q", found) if isinstance(values, array.array) else found

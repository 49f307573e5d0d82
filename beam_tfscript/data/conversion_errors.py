"""`ConversionError`, and the search for the items of a list that cause it.

Input: the number of items, and a check of a range of them that raises `ConversionError`. Output: the items that fail,
each with its error. Lists are converted a column at a time. Only after a failure are they halved until the failing
items stand alone, so the vectorised conversion is the only set of rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ConversionError", "find_first", "find_ranges", "shorten", "with_article"]

_SHOWN_CHARACTERS = 80


class ConversionError(ValueError):
    """Values that do not fit a column. The message is the end of a sentence about a value: `is out of range …`."""


def find_first(count: int, check: Callable[[int, int], Any]) -> tuple[int, ConversionError] | None:
    """Return the index and the error of the first item that does not fit; None where all fit.

    Args:
      count: number of items.
      check: `check(start, stop)` raises `ConversionError` where one of those items does not fit.
    """
    try:
        check(0, count)
    except ConversionError as error:
        error_of_all = error
    else:
        return None
    start, stop = 0, count
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            check(start, middle)
        except ConversionError:
            stop = middle
        else:
            start = middle
    try:
        check(start, start + 1)
    except ConversionError as error:
        return start, error
    return start, error_of_all


def find_ranges(
    count: int, check: Callable[[int, int], Any]
) -> tuple[list[tuple[int, int]], list[tuple[int, ConversionError]]]:
    """Return the ranges of items that fit, in order, and the index and the error of each item that does not.

    Args:
      count: number of items.
      check: `check(start, stop)` raises `ConversionError` where one of those items does not fit.
    """
    fitting: list[tuple[int, int]] = []
    errors: list[tuple[int, ConversionError]] = []
    pending = [(0, count)] if count else []
    while pending:
        start, stop = pending.pop()
        try:
            check(start, stop)
        except ConversionError as error:
            if stop - start == 1:
                errors.append((start, error))
            else:
                middle = (start + stop) // 2
                pending += [(middle, stop), (start, middle)]
        else:
            fitting.append((start, stop))
    return fitting, errors


def with_article(noun: str) -> str:
    """Return a noun with its article: `a float`, `an int`."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def shorten(value: Any) -> str:
    """Return a value as a message shows it: its `repr`, cut where it is long."""
    if isinstance(value, (str, bytes, bytearray, list, tuple)):
        value = value[:_SHOWN_CHARACTERS]
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."

"""Finding what does not fit in a list that failed as a whole.

Comes in: how many items there are, and a check of a range of them that raises `ConversionError`. Goes out: where the
misfits are. Lists are converted a column at a time, and only after a failure are they halved until the items at
fault stand alone; so there is one set of rules for what fits, and it is the vectorised one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ConversionError", "find_first", "find_ranges", "shorten", "with_article"]

_SHOWN_CHARACTERS = 80


class ConversionError(ValueError):
    """Some of the values do not fit; the message reads on after a value: `is out of range ...`."""


def find_first(count: int, check: Callable[[int, int], Any]) -> tuple[int, ConversionError] | None:
    """Returns the first item that does not fit, with its own misfit; None where all fit.

    Args:
      count: number of items.
      check: `check(start, stop)` raises `ConversionError` where one of those items does not fit.
    """
    try:
        check(0, count)
    except ConversionError as misfit:
        found = misfit
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
    return start, _check_one(start, check, found)


def find_ranges(
    count: int, check: Callable[[int, int], Any]
) -> tuple[list[tuple[int, int]], list[tuple[int, ConversionError]]]:
    """Returns the ranges of items that fit, in order, and the items that do not, each with its misfit.

    Args:
      count: number of items.
      check: `check(start, stop)` raises `ConversionError` where one of those items does not fit.
    """
    good: list[tuple[int, int]] = []
    bad: list[tuple[int, ConversionError]] = []
    waiting = [(0, count)] if count else []
    while waiting:
        start, stop = waiting.pop()
        try:
            check(start, stop)
        except ConversionError as misfit:
            if stop - start == 1:
                bad.append((start, misfit))
            else:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
        else:
            good.append((start, stop))
    return good, bad


def with_article(noun: str) -> str:
    """Returns `a float`, `an int`."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def shorten(value: Any) -> str:
    """Returns a value as a message shows it: its `repr`, cut where it is long."""
    if isinstance(value, (str, bytes, bytearray, list, tuple)):
        value = value[:_SHOWN_CHARACTERS]
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _check_one(index: int, check: Callable[[int, int], Any], misfit: ConversionError) -> ConversionError:
    try:
        check(index, index + 1)
    except ConversionError as own:
        return own
    return misfit

"""Rows and figures as text that fits a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_SHOWN_ROWS = 5
_MIN_CELL_CHARS = 12


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The first rows as a table, no wider than the terminal as far as that goes.

    Args:
      names: the columns' names.
      rows: the values; those that are not shown are counted.
    """
    width = max(_MIN_CELL_CHARS, (shutil.get_terminal_size().columns - 2) // max(len(names), 1) - 2)
    lines = [list(names)] + [[cell(value, width) for value in row] for row in rows[:_SHOWN_ROWS]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    text = ["  " + "  ".join(value.ljust(size) for value, size in zip(line, widths)).rstrip() for line in lines]
    if len(rows) > _SHOWN_ROWS:
        text.append(f"  … and {len(rows) - _SHOWN_ROWS} more")
    return "\n".join(text)


def cell(value: Any, width: int) -> str:
    """A value on one line of at most `width` characters."""
    if value is None:
        text = "null"
    elif isinstance(value, str):
        text = value if value.isprintable() else repr(value)[1:-1]
    elif isinstance(value, np.ndarray):
        text = np.array2string(value, threshold=8, separator=", ").replace("\n", "")
    elif isinstance(value, float):
        text = f"{value:.7g}"
    elif hasattr(value, "to_rfc3339"):  # Beam's time, which has no end and no beginning
        text = value.to_rfc3339()
    elif isinstance(value, (list, tuple)):
        shown = ", ".join(cell(one, width) for one in value[:_SHOWN_ROWS])
        text = f"[{shown}{', …' if len(value) > _SHOWN_ROWS else ''}]"
    else:
        text = str(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def pairs(values: Mapping[str, Any]) -> str:
    """Names and numbers on one line."""
    return ", ".join(f"{name} {number(value)}" for name, value in sorted(values.items()))


def number(value: Any) -> str:
    """A count, a measure, or the figures of a distribution."""
    if hasattr(value, "sum"):
        return f"{value.count} values from {value.min} to {value.max}, mean {value.sum / value.count:.4g}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def size(n_bytes: int) -> str:
    """Bytes in a unit that can be read."""
    return f"{n_bytes / (1 << 30):.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / (1 << 20):.0f} MiB"

"""Text for a terminal: tables of rows, numbers with their names, sizes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_SHOWN_ROWS = 5
_MIN_CELL_CHARS = 12


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table of the first rows, which fits the terminal unless there are too many columns.

    Args:
      names: names of the columns.
      rows: values of each row; a last line counts the rows that are left out.
    """
    width = max(_MIN_CELL_CHARS, (shutil.get_terminal_size().columns - 2) // max(len(names), 1) - 2)
    lines = [list(names)] + [[cell(value, width) for value in row] for row in rows[:_SHOWN_ROWS]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    text = ["  " + "  ".join(value.ljust(size) for value, size in zip(line, widths)).rstrip() for line in lines]
    if len(rows) > _SHOWN_ROWS:
        text.append(f"  … and {len(rows) - _SHOWN_ROWS} more")
    return "\n".join(text)


def cell(value: Any, width: int) -> str:
    """Return a value as one line of at most `width` characters."""
    if value is None:
        text = "null"
    elif isinstance(value, str):
        text = value if value.isprintable() else repr(value)[1:-1]
    elif isinstance(value, np.ndarray):
        text = np.array2string(value, threshold=8, separator=", ").replace("\n", "")
    elif isinstance(value, float):
        text = f"{value:.7g}"
    elif hasattr(value, "to_rfc3339"):  # Beam's Timestamp: its own text says `Timestamp(…)`
        text = value.to_rfc3339()
    elif isinstance(value, (list, tuple)):
        shown = ", ".join(cell(element, width) for element in value[:_SHOWN_ROWS])
        text = f"[{shown}{', …' if len(value) > _SHOWN_ROWS else ''}]"
    else:
        text = str(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def pairs(values: Mapping[str, Any]) -> str:
    """Return names and their numbers as one line."""
    return ", ".join(f"{name} {number(value)}" for name, value in sorted(values.items()))


def number(value: Any) -> str:
    """Return a count, a measured value or a distribution as text."""
    if hasattr(value, "sum"):
        return f"{value.count} values from {value.min} to {value.max}, mean {value.sum / value.count:.4g}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def size(n_bytes: int) -> str:
    """Return a number of bytes in MiB, or in GiB from 1 GiB on."""
    return f"{n_bytes / (1 << 30):.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / (1 << 20):.0f} MiB"

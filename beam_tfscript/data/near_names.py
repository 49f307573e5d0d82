"""Ends of messages about unknown names: the nearest known names, or all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["near_names"]

_SHOWN_NAMES = 20


def near_names(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name.

    Args:
      name: the unknown name.
      known: the names that exist.

    Returns:
      The names of `known` that are most like `name`, or else the first of `known`, as the end of a sentence.
    """
    known = list(known)
    folded = {other.casefold(): other for other in reversed(known)}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    if near:
        return f". Did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(map(repr, known[:_SHOWN_NAMES])) + (", ..." if len(known) > _SHOWN_NAMES else "")
    return f"; there are {shown}." if shown else "."

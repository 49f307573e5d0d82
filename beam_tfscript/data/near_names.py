"""Ends of messages on unknown names: the nearest known names, or all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["near_names"]


def near_names(name: str, known: Iterable[str]) -> str:
    """Returns the end of a message on an unknown `name`: the near ones of `known`, or all of them."""
    known = list(known)
    folded = {other.casefold(): other for other in reversed(known)}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
    if near:
        return f". Did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
    return f"; there are {shown}." if shown else "."

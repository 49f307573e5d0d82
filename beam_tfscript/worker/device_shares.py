"""Shares of accelerators: the needs of a run's processes, and the accelerators that they are placed on."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

# Shares are floats: three thirds are a whole accelerator.
_ROUNDING = 1e-6

# Id of an accelerator -> the share of it that is in use: 0 to 1.
Use: TypeAlias = "collections.defaultdict[str, float]"


class Demand(NamedTuple):
    """Accelerators for all processes that a run needs at once.

    Attributes:
      shares: for each process, a number of accelerators, or a fraction of one.
      ids: the accelerators that they may be.
    """

    shares: tuple[float, ...]
    ids: tuple[str, ...]


def no_use() -> Use:
    """Return the use of accelerators that are all free."""
    return collections.defaultdict(float)


def add_use(use: Use, ids: Iterable[str], share: float) -> None:
    """Add the accelerators of one process.

    Args:
      use: changed.
      ids: the accelerators.
      share: number of accelerators, or a fraction of one; negative to take them away.
    """
    for name in ids:
        use[name] += max(-1.0, min(share, 1.0))


def place(demand: Demand, use: Use) -> list[tuple[str, ...]] | None:
    """Return the accelerators of each process; None if not all of the processes can be placed.

    A whole number takes the first accelerators that are free. A fraction takes the least used one of those with room:
    so processes share one only if there are more processes than accelerators.

    Args:
      demand: what is needed.
      use: the placed processes are added; unchanged if the result is None.
    """
    placed = []
    tried = use.copy()
    for share in demand.shares:
        if share < 1:
            fitting = [name for name in demand.ids if tried[name] + share <= 1 + _ROUNDING]
            ids = tuple(sorted(fitting, key=tried.__getitem__)[:1])
        else:
            ids = tuple(name for name in demand.ids if tried[name] <= _ROUNDING)[: int(share)]
        if len(ids) < max(1, share):
            return None
        add_use(tried, ids, share)
        placed.append(ids)
    use.update(tried)
    return placed

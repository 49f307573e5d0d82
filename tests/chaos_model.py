"""Outputs that a run may give, whatever happens to it: the table of docs/delivery.md as a function."""

from __future__ import annotations

import collections
from typing import Any, NamedTuple

# Faults that cost an attempt, those of them in which the process dies, and those after which it may or may not go on.
FAILING = {"kill", "leave", "fail", "freeze"}
DEATHS = {"kill", "leave", "freeze"}
UNSURE = {"close", "scribble"}


class Plan(NamedTuple):
    """Plan of a round.

    Attributes:
      engine: where it runs.
      feed, replay, keep_unacked_bytes, max_attempts, num_workers: arguments of the transform.
      rows: how many; row `i` has the timestamp `i`.
      row_bytes, output_bytes: size of what is added to a row, and to what the script makes of it.
      batch: rows that the script asks for.
      window: length of the windows in seconds; None for the global one.
      chunk: rows that come at a time, on unbounded input; None for bounded input.
      has_dead_letters: whether rows that fail are given apart.
      disk_mib: size of the disk for temporary files, if it is small.
      faults: row -> kinds of what happens in its batch, one each time that the row is given.
    """

    engine: str
    feed: str
    replay: bool | None
    keep_unacked_bytes: int | None
    max_attempts: int
    num_workers: int
    rows: int
    row_bytes: int
    output_bytes: int
    batch: int
    window: float | None
    chunk: int | None
    has_dead_letters: bool
    disk_mib: int | None
    faults: dict[int, list[str]]


class Found(NamedTuple):
    """Result of a round: the error, the numbers of good rows with their windows and of bad ones, counters, faults."""

    error: str | None
    good: list[tuple[int, Any]]
    bad: list[int]
    metrics: dict[str, Any]
    happened: list[str]


def violations(plan: Plan, found: Found) -> list[str]:
    """Return the violations of the guarantees."""
    wrong = []
    costs = collections.Counter(
        row for row, kinds in plan.faults.items() for kind in kinds if kind in FAILING | UNSURE
    )  # fmt: skip
    # Where attempts are counted for a batch, faults that lie apart do not add up; which rows are one batch is open.
    reach = 2 * plan.batch if plan.feed == "bundles" else plan.rows
    most = max((sum(n for other, n in costs.items() if abs(other - row) <= reach) for row in costs), default=0)
    replays = plan.window is not None if plan.replay is None else plan.replay
    loses = plan.feed == "stream" and not replays and plan.keep_unacked_bytes == 0
    repeats = plan.feed == "stream" and replays
    # A run that dies at its end with rows that nobody has kept is told by a failed bundle: none would come after it.
    may_fail = most >= plan.max_attempts or plan.disk_mib is not None or (loses and bool(costs))
    if found.error is not None:
        # Prism may say what it was left with before it says why.
        known = any(text in found.error for text in ("chaos.py", "No space left", "nothing in progress"))
        if plan.has_dead_letters and plan.disk_mib is None:
            wrong.append("a bundle failed, though there are dead letters")
        elif not (may_fail and known):
            wrong.append("it failed" if may_fail else "it failed, with attempts left")
        return wrong
    rows, expected = [row for row, _ in found.good], set(range(plan.rows))
    lost = expected - set(rows) - set(found.bad)
    if lost and not (loses and found.happened):
        wrong.append(f"{len(lost)} rows lost: {sorted(lost)[:5]}")
    if set(rows) & set(found.bad) or (found.bad and not (plan.has_dead_letters and may_fail)):
        wrong.append(f"{len(found.bad)} dead letters: {found.bad[:5]}")
    doubled = [row for row, times in collections.Counter(rows + found.bad).items() if times > 1]
    if set(rows) - expected or (doubled and not (repeats and found.happened)):
        wrong.append(f"rows doubled or made up: {doubled[:5]} {sorted(set(rows) - expected)[:5]}")
    for row, window in found.good:
        if plan.window is not None and not window[0] <= row < window[1]:
            wrong.append(f"row {row} is in the window {window}")
            break
    # The bundle-based engine gives the metrics of a transform's first bundles alone, and Prism at times not those of a
    # bundle that it has split, as it may where a stage has no state.
    if plan.engine != "bundle_based" and not (plan.engine == "prism" and plan.feed != "stream"):
        figures = {"rows_out": len(rows), "rows_lost": len(lost), "rows_bad": len(found.bad)}
        if not repeats:
            figures["seen"] = len(rows)
        if not UNSURE & set(found.happened) and not plan.has_dead_letters and plan.disk_mib is None:
            figures["runs_failed"] = sum(kind in FAILING for kind in found.happened)
            figures["process_deaths"] = sum(kind in DEATHS for kind in found.happened)
        wrong += [
            f"{name} is {found.metrics.get(name, 0)}, not {n}"
            for name, n in figures.items()
            if found.metrics.get(name, 0) != n
        ]
    return wrong

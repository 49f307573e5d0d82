"""Numbers of tasks in a cluster, filled in from those that a user gives."""

from __future__ import annotations

from typing import NamedTuple

from beam_tfscript.errors import ArgumentError

__all__ = ["Counts", "resolve_counts"]

# If only the total is given, one task in this many is a parameter server.
_TASKS_PER_PS = 4


class Counts(NamedTuple):
    """The size of a cluster.

    Attributes:
      num_workers: number of workers, which are fed rows; the chief is one of them.
      num_ps: number of parameter servers.
      num_evaluators: number of evaluators, which are not in TensorFlow's cluster.
    """

    num_workers: int
    num_ps: int
    num_evaluators: int

    @property
    def total(self) -> int:
        """Number of all tasks."""
        return self.num_workers + self.num_ps + self.num_evaluators


def resolve_counts(
    num_workers: int | None = None,
    num_ps: int | None = None,
    parallelism: int | None = None,
    num_evaluators: int = 0,
) -> Counts:
    """Return all counts, with the missing ones filled in.

    Without `parallelism`, there are one worker and no parameter server by default. With `parallelism`, workers and
    parameter servers together are that many. If neither count is given, a quarter of the tasks, and at least one, are
    parameter servers; a total of 1 is one worker. If one count is given, the other is the remainder. Evaluators are
    added to the total.

    Args:
      num_workers: number of workers, the chief included; None for the default above.
      num_ps: number of parameter servers; None for the default above.
      parallelism: number of workers and parameter servers together; None for no total.
      num_evaluators: number of evaluators.

    Raises:
      ArgumentError: a count is out of its range, or the counts do not add up to the total.
    """
    _check("num_workers", num_workers, 1)
    _check("num_ps", num_ps, 0)
    _check("parallelism", parallelism, 1)
    _check("num_evaluators", num_evaluators, 0)
    if parallelism is None:
        return Counts(1 if num_workers is None else num_workers, num_ps or 0, num_evaluators)
    if num_workers is None and num_ps is None:
        num_ps = 0 if parallelism == 1 else max(parallelism // _TASKS_PER_PS, 1)
    if num_ps is None:
        num_ps = _remainder("num_ps", parallelism, "num_workers", num_workers or 0)
    elif num_workers is None:
        num_workers = _remainder("num_workers", parallelism, "num_ps", num_ps)
    if num_workers is None:
        num_workers = parallelism - num_ps
    if num_workers + num_ps != parallelism:
        raise ArgumentError(
            "num_workers and num_ps must add up to `parallelism`, got "
            f"{num_workers} + {num_ps} and parallelism={parallelism}. Leave out one of the three."
        )
    return Counts(num_workers, num_ps, num_evaluators)


def _remainder(wanted: str, parallelism: int, given: str, count: int) -> int:
    if count >= parallelism:
        also = ", or give num_ps=0 too for no parameter server" if wanted == "num_ps" else ""
        raise ArgumentError(
            f"`parallelism` must be greater than {given}, since {wanted} is the remainder, got "
            f"parallelism={parallelism} and {given}={count}. Give {wanted} instead of parallelism{also}."
        )
    return parallelism - count


def _check(name: str, value: int | None, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {value!r}.")

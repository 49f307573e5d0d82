"""How many tasks a cluster has: the counts that a user gave in, all of them out."""

from __future__ import annotations

from typing import NamedTuple

from beam_tfscript.errors import ArgumentError

__all__ = ["Counts", "resolve_counts"]

# Of a total that is given alone, one task in this many is a parameter server.
_TASKS_PER_PS = 4


class Counts(NamedTuple):
    """The size of a cluster.

    Attributes:
      num_workers: tasks that work on rows; the chief is one of them.
      num_ps: parameter servers.
      num_evaluators: evaluators, which stand outside of TensorFlow's cluster.
    """

    num_workers: int
    num_ps: int
    num_evaluators: int

    @property
    def total(self) -> int:
        """All tasks."""
        return self.num_workers + self.num_ps + self.num_evaluators


def resolve_counts(
    num_workers: int | None = None,
    num_ps: int | None = None,
    parallelism: int | None = None,
    num_evaluators: int = 0,
) -> Counts:
    """Fills in the counts that were not given.

    Without `parallelism` there is one worker and no parameter server unless a count says otherwise. With
    it, workers and parameter servers are that many together: where neither is given, a quarter of them, and at
    least one, are parameter servers (a total of 1 is one worker); where one is given, the other is the
    remainder. Evaluators come on top.

    Args:
      num_workers: workers, the chief included; None for the rule above.
      num_ps: parameter servers; None for the rule above.
      parallelism: workers and parameter servers together; None where no total is given.
      num_evaluators: evaluators.

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
            "num_workers and num_ps must be `parallelism` together, got "
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

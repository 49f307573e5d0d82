"""Who is who in a cluster: counts and addresses in, its tasks and the `TF_CONFIG` of each out.

The first worker is the chief, so a cluster of 3 workers is `chief:0`, `worker:0` and `worker:1`. An
evaluator has no place in the cluster spec, as TensorFlow wants it: it reads checkpoints and talks to nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_tfscript.cluster.counts import Counts
from beam_tfscript.errors import ArgumentError

__all__ = ["Addresses", "Task", "make_addresses", "make_tasks", "num_addresses", "tf_config", "tf_config_text"]

# Task type -> the addresses of its tasks, by index: `config.cluster`.
Addresses = Mapping[str, Sequence[str]]

# A run that is alone: the name that TensorFlow knows for "here", and a port at which nobody listens.
_ALONE = {"chief": ["localhost:0"]}


@dataclass(frozen=True)
class Task:
    """One task of a cluster.

    Attributes:
      type: `chief`, `worker`, `ps` or `evaluator`.
      index: which of its type.
      shard: whose rows it has, 0 to num_workers - 1; None for a task that is fed none.
    """

    type: str
    index: int
    shard: int | None

    def __str__(self) -> str:
        return f"{self.type}:{self.index}"


def make_tasks(counts: Counts) -> list[Task]:
    """The tasks of a cluster, the chief first."""
    tasks = [Task("chief", 0, 0)]
    tasks += [Task("worker", index, index + 1) for index in range(counts.num_workers - 1)]
    tasks += [Task("ps", index, None) for index in range(counts.num_ps)]
    return tasks + [Task("evaluator", index, None) for index in range(counts.num_evaluators)]


def num_addresses(counts: Counts) -> int:
    """How many tasks of a cluster are spoken to, and so need an address."""
    return counts.num_workers + counts.num_ps if counts.total > 1 else 0


def make_addresses(counts: Counts, addresses: Sequence[str] = ()) -> dict[str, list[str]]:
    """What `config.cluster` holds: task type -> addresses.

    A run that is alone is the chief of a cluster of one, at an address at which nobody listens.

    Args:
      counts: the size of the cluster.
      addresses: `host:port` for each task that is spoken to, in the order of `make_tasks`.
    """
    if counts.total == 1:
        return {role: list(places) for role, places in _ALONE.items()}
    if len(addresses) != num_addresses(counts):
        raise ValueError(f"{num_addresses(counts)} addresses are needed, got {len(addresses)}")
    found: dict[str, list[str]] = {}
    spoken_to = (task for task in make_tasks(counts) if task.type != "evaluator")
    for task, address in zip(spoken_to, addresses):
        found.setdefault(task.type, []).append(address)
    return found


def tf_config(addresses: Addresses, task_type: str, task_index: int) -> dict[str, Any]:
    """`TF_CONFIG` of one task, in TensorFlow's own form.

    Args:
      addresses: what `make_addresses` gives.
      task_type, task_index: the task.
    """
    cluster = {role: list(places) for role, places in addresses.items() if places}
    return {"cluster": cluster, "task": {"type": task_type, "index": task_index}}


def tf_config_text(counts: Counts, addresses: Addresses, task: Task, *, when: str | None = None) -> str | None:
    """The value of the environment variable `TF_CONFIG` for one task; None where it must not be set.

    A run that is alone has none: told that it is the chief of a cluster, an Estimator leaves evaluation and
    exporting to an evaluator that is not there. One worker with an evaluator has one, the chief's cluster
    of one: there the evaluator does both (so TensorFlow 1.15 and 2.15).

    Args:
      counts: the size of the cluster.
      addresses: what `make_addresses` gives.
      task: whose it is.
      when: `"always"` sets it for a run that is alone, too; None does not.

    Raises:
      ArgumentError: `when` is something else.
    """
    if when not in (None, "always"):
        raise ArgumentError(f'tf_config must be "always" or None, got {when!r}.')
    if counts.total == 1 and when is None:
        return None
    return json.dumps(tf_config(addresses, task.type, task.index))

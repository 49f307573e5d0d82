"""Tasks of a cluster and the `TF_CONFIG` of each, from the counts and the addresses.

The first worker is the chief, so a cluster of 3 workers is `chief:0`, `worker:0` and `worker:1`. An evaluator is not in
the cluster spec, as TensorFlow requires: it only reads checkpoints
(https://www.tensorflow.org/versions/r2.15/api_docs/python/tf/estimator/train_and_evaluate).
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

# Cluster of a single task: this machine, and a port on which no process listens.
_SINGLE_TASK = {"chief": ["localhost:0"]}


@dataclass(frozen=True)
class Task:
    """One task of a cluster.

    Attributes:
      type: `chief`, `worker`, `ps` or `evaluator`.
      index: number among the tasks of its type, from 0.
      shard: the shard whose rows it is fed, 0 to num_workers - 1; None for a task without rows.
    """

    type: str
    index: int
    shard: int | None

    def __str__(self) -> str:
        return f"{self.type}:{self.index}"


def make_tasks(counts: Counts) -> list[Task]:
    """Return the tasks of a cluster, the chief first."""
    tasks = [Task("chief", 0, 0)]
    tasks += [Task("worker", index, index + 1) for index in range(counts.num_workers - 1)]
    tasks += [Task("ps", index, None) for index in range(counts.num_ps)]
    return tasks + [Task("evaluator", index, None) for index in range(counts.num_evaluators)]


def num_addresses(counts: Counts) -> int:
    """Return the number of tasks that need an address: all but evaluators, and none if there is one task."""
    return counts.num_workers + counts.num_ps if counts.total > 1 else 0


def make_addresses(counts: Counts, addresses: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the value of `config.cluster`: task type -> addresses.

    A single task is the chief of a cluster of one, at an address on which no process listens.

    Args:
      counts: the size of the cluster.
      addresses: `host:port` of each task that needs an address, in the order of `make_tasks`.
    """
    if counts.total == 1:
        return {role: list(hosts) for role, hosts in _SINGLE_TASK.items()}
    if len(addresses) != num_addresses(counts):
        raise ValueError(f"{num_addresses(counts)} addresses are needed, got {len(addresses)}")
    found: dict[str, list[str]] = {}
    addressed = (task for task in make_tasks(counts) if task.type != "evaluator")
    for task, address in zip(addressed, addresses):
        found.setdefault(task.type, []).append(address)
    return found


def tf_config(addresses: Addresses, task_type: str, task_index: int) -> dict[str, Any]:
    """Return the `TF_CONFIG` of one task, as TensorFlow's JSON object.

    Args:
      addresses: result of `make_addresses`.
      task_type, task_index: the task.
    """
    cluster = {role: list(hosts) for role, hosts in addresses.items() if hosts}
    return {"cluster": cluster, "task": {"type": task_type, "index": task_index}}


def tf_config_text(counts: Counts, addresses: Addresses, task: Task, *, when: str | None = None) -> str | None:
    """Return the value of the environment variable `TF_CONFIG` for one task; None if it must not be set.

    A single task has none: as the chief of a cluster, an Estimator leaves evaluation and export to an evaluator, which
    does not exist. One worker with an evaluator has one, with a cluster of one chief: there the evaluator does both
    (tested with TensorFlow 1.15 and 2.15).

    Args:
      counts: the size of the cluster.
      addresses: result of `make_addresses`.
      task: the task.
      when: `"always"` sets the variable for a single task, too; None does not.

    Raises:
      ArgumentError: `when` has another value.
    """
    if when not in (None, "always"):
        raise ArgumentError(f'tf_config must be "always" or None, got {when!r}.')
    if counts.total == 1 and when is None:
        return None
    return json.dumps(tf_config(addresses, task.type, task.index))

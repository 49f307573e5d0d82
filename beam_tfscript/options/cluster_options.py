"""The arguments that make a cluster of a transform's runs, checked together while the pipeline is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from beam_tfscript.cluster.counts import Counts, resolve_counts
from beam_tfscript.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
    """Layout of a run's tasks; None in the options where each shard is alone.

    Attributes:
      counts: number of tasks of each type.
      tf_config: "always" to set `TF_CONFIG` for a task that is alone too.
      ps_main: True if `main` is called on parameter servers.
      grace_s: seconds that workers and evaluators may go on after the chief has ended.
    """

    counts: Counts
    tf_config: str | None
    ps_main: bool
    grace_s: float


def count_tasks(values: Mapping[str, Any]) -> Counts:
    """Return the number of tasks of each type, in one cluster or each alone.

    Args:
      values: argument's name -> its value, each checked by itself.

    Raises:
      ArgumentError: the counts do not add up.
    """
    return resolve_counts(values["num_workers"], values["num_ps"], values["parallelism"], values["num_evaluators"])


def check_cluster(values: Mapping[str, Any], *, is_training: bool) -> ClusterOptions | None:
    """Check the rules that tie the arguments of a cluster together.

    Args:
      values: argument's name -> its value, each checked by itself.
      is_training: True for TrainTFScript.

    Returns:
      The cluster; None where each shard is a run of its own.

    Raises:
      ArgumentError: the arguments do not fit together; the message says which, and the rule.
    """
    counts = count_tasks(values)
    placement, tf_config, ps_main = values["placement"], values["tf_config"], values["ps_main"]
    _check_placement(placement, counts, is_training=is_training)
    if ps_main and not counts.num_ps:
        raise ArgumentError(
            "ps_main=True is for parameter servers, and this cluster has none: give num_ps, or leave ps_main out."
        )
    if not (counts.num_ps or counts.num_evaluators or is_training or placement == "one_host"):
        if tf_config is not None:
            raise ArgumentError('tf_config="always" is for a cluster: give placement="one_host" with it.')
        return None
    return ClusterOptions(counts, tf_config, ps_main, values["cluster_grace"])


def _check_placement(placement: str | None, counts: Counts, *, is_training: bool) -> None:
    if placement == "spread":
        raise ArgumentError(
            'placement="spread", a cluster over several machines, is not available yet: use "one_host", which runs all '
            "tasks of a cluster on one worker machine."
        )
    if placement == "independent" and (counts.num_ps or counts.num_evaluators):
        raise ArgumentError(
            'placement="independent" has no parameter servers and no evaluators, as each shard is alone: leave out '
            'num_ps and num_evaluators, or give placement="one_host".'
        )
    if placement == "independent" and is_training and counts.num_workers > 1:
        raise ArgumentError(
            'placement="independent" would train one model per shard, but a training gives one model: leave placement '
            "out, for one cluster of all workers."
        )

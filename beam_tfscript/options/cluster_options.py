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
      is_spread: True if the tasks may be on several machines.
      timeout_s: seconds that tasks on several machines wait until all have begun.
      network: the network of the machines' addresses; None for any.
      port_range: (first, last) port that tasks may listen on; None for any.
    """

    counts: Counts
    tf_config: str | None
    ps_main: bool
    grace_s: float
    is_spread: bool
    timeout_s: float
    network: str | None
    port_range: tuple[int, int] | None


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
    is_spread = placement == "spread"
    if is_spread:
        _check_spread_feed(values["feed"])
    elif values["cluster_network"] is not None:
        raise ArgumentError(
            'cluster_network is for placement="spread": on one machine, the tasks reach each other by localhost.'
        )
    if ps_main and not counts.num_ps:
        raise ArgumentError(
            "ps_main=True is for parameter servers, and this cluster has none: give num_ps, or leave ps_main out."
        )
    if not (counts.num_ps or counts.num_evaluators or is_training or placement in ("one_host", "spread")):
        if tf_config is not None:
            raise ArgumentError('tf_config="always" is for a cluster: give placement="one_host" with it.')
        return None
    return ClusterOptions(
        counts, tf_config, ps_main, values["cluster_grace"], is_spread, values["cluster_timeout"],
        values["cluster_network"], values["cluster_ports"],
    )  # fmt: skip


def _check_spread_feed(feed: str | None) -> None:
    """Refuse feeds whose rows come while the tasks run: all tasks would have to get them at one place."""
    if feed == "stream":
        raise ArgumentError(
            'placement="spread" is for feed="dataset". In feed="stream" one worker gets the rows of all tasks and '
            'decides what each has done, so their processes must be on its machine: use "one_host".'
        )
    if feed == "bundles":
        raise ArgumentError('placement="spread" is for feed="dataset": feed="bundles" has no clusters.')


def _check_placement(placement: str | None, counts: Counts, *, is_training: bool) -> None:
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

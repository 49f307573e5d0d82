"""The arguments that make a cluster of a transform's runs, checked while the pipeline is built."""

from __future__ import annotations

import dataclasses

from beam_tfscript.cluster.counts import Counts, resolve_counts
from beam_tfscript.errors import ArgumentError

PLACEMENTS = ("independent", "one_host", "spread")
_EVER = float("inf")


@dataclasses.dataclass(frozen=True)
class ClusterOptions:
    """How the tasks of a run are laid out; None in the options where each shard is alone.

    Attributes:
      counts: how many tasks there are.
      tf_config: "always" to set `TF_CONFIG` for a task that is alone too.
      ps_main: whether `main` is called on parameter servers.
      grace_s: how long workers and evaluators may go on when the chief is done.
    """

    counts: Counts
    tf_config: str | None
    ps_main: bool
    grace_s: float


def check_cluster(
    *,
    num_workers: int | None,
    num_ps: int | None,
    num_evaluators: int,
    parallelism: int | None,
    placement: str | None,
    tf_config: str | None,
    ps_main: bool,
    cluster_grace: float,
    is_training: bool,
) -> ClusterOptions | None:
    """Checks the arguments of a cluster.

    Returns:
      The cluster; None where each shard is a run of its own.

    Raises:
      ArgumentError: one of them cannot be used; the message says which, its value, and the rule.
    """
    counts = resolve_counts(num_workers, num_ps, parallelism, num_evaluators)
    _check_placement(placement, counts, is_training=is_training)
    if tf_config not in (None, "always"):
        raise ArgumentError(f'tf_config must be "always" or None, got {tf_config!r}.')
    if isinstance(cluster_grace, bool) or not isinstance(cluster_grace, (int, float)) or not 0 <= cluster_grace < _EVER:
        raise ArgumentError(f"cluster_grace must be a number of seconds of at least 0, got {cluster_grace!r}.")
    if not isinstance(ps_main, bool):
        raise ArgumentError(f"ps_main must be True or False, got {ps_main!r}.")
    if ps_main and not counts.num_ps:
        raise ArgumentError("ps_main=True is for parameter servers, and there are none: give num_ps, or leave it out.")
    if not (counts.num_ps or counts.num_evaluators or is_training or placement == "one_host"):
        if tf_config is not None:
            raise ArgumentError('tf_config="always" is for a cluster: give placement="one_host" with it.')
        return None
    return ClusterOptions(counts, tf_config, ps_main, float(cluster_grace))


def _check_placement(placement: str | None, counts: Counts, *, is_training: bool) -> None:
    if placement is not None and placement not in PLACEMENTS:
        raise ArgumentError(f"placement must be one of {', '.join(map(repr, PLACEMENTS))} or None, got {placement!r}.")
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
            'placement="independent" would train a model a shard, and a training gives one: leave placement out, for '
            "one cluster of all workers."
        )

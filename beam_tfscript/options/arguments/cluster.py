"""Arguments about the cluster: its tasks, and what each of them does."""

from __future__ import annotations

from typing import Any

from beam_tfscript.options.arguments import checks
from beam_tfscript.options.arguments.argument import Argument, Flag, attribute

PLACEMENTS = ("independent", "one_host", "spread")

_GROUP = "script"
# Feed `bundles` has no clusters; `options.script_options` refuses them there.
_FEEDS = ("dataset", "stream")
_SPREAD_FEEDS = ("dataset",)
_NO_SHARDS = "Rows are not shuffled there, so there are no shards. max_processes limits the processes per worker."


def _count(name: str) -> Any:
    return lambda options: None if options.cluster is None else getattr(options.cluster.counts, name)


NUM_WORKERS = Argument(
    "num_workers",
    int | None,
    "number of shards, or of a cluster's workers, the chief included; None for 1.",
    default=None,
    feeds=_FEEDS,
    wrong_feed=_NO_SHARDS,
    check=checks.whole_number(1),
    show=attribute("num_workers"),
    flag=Flag(_GROUP, "N", parse=int),
)
NUM_PS = Argument(
    "num_ps",
    int | None,
    "number of the cluster's parameter servers; None for 0, or for the remainder of `parallelism`.",
    default=None,
    feeds=_FEEDS,
    check=checks.whole_number(0),
    show=_count("num_ps"),
    flag=Flag(_GROUP, "N", parse=int),
)
NUM_EVALUATORS = Argument(
    "num_evaluators",
    int,
    "number of the cluster's evaluators.",
    default=0,
    feeds=_FEEDS,
    check=checks.whole_number(0),
    show=_count("num_evaluators"),
)
PARALLELISM = Argument(
    "parallelism",
    int | None,
    "number of workers and parameter servers together. If neither `num_workers` nor `num_ps` is given, a quarter of "
    "them are parameter servers. If one of the two is given, the other is the remainder.",
    default=None,
    feeds=_FEEDS,
    wrong_feed=_NO_SHARDS,
    check=checks.whole_number(1),
)
PLACEMENT = Argument(
    "placement",
    str | None,
    'layout of the shards: `"independent"`, or the tasks of one cluster on `"one_host"` or `"spread"` over several. '
    'With `"independent"` each shard is alone. With `"one_host"`, the runs of all shards are a TensorFlow cluster on '
    'one machine. With `"spread"`, in feed="dataset", its tasks are on any machines. None for `"one_host"` if there '
    'are parameter servers or evaluators, else `"independent"`.',
    default=None,
    feeds=_FEEDS,
    choices=PLACEMENTS,
    flag=Flag(_GROUP),
)
TF_CONFIG = Argument(
    "tf_config",
    str | None,
    '`"always"` to set `TF_CONFIG` for a cluster of one task as well. TensorFlow describes the variable in '
    "https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable.",
    default=None,
    feeds=_FEEDS,
    choices=("always",),
)
PS_MAIN = Argument(
    "ps_main",
    bool,
    "calls `main` on parameter servers too, which otherwise only serve.",
    default=False,
    feeds=_FEEDS,
    check=checks.boolean,
    flag=Flag(_GROUP, parse=bool),
)
CLUSTER_GRACE = Argument(
    "cluster_grace",
    float,
    "seconds that workers and evaluators may continue after the chief has ended.",
    default=60,
    feeds=_FEEDS,
    check=checks.seconds_or_zero,
)

CLUSTER_TIMEOUT = Argument(
    "cluster_timeout",
    float,
    'seconds for which the tasks of a cluster with `placement="spread"` wait until all of them have begun.',
    default=600,
    feeds=_SPREAD_FEEDS,
    check=checks.seconds,
)
CLUSTER_NETWORK = Argument(
    "cluster_network",
    str | None,
    'the network, such as `"10.0.0.0/8"`, in which the machines of a cluster with `placement="spread"` reach each '
    "other. None to try all addresses of each machine. If the environment variable `BEAM_TFSCRIPT_HOST` of a worker is "
    "set, it is the worker's only address.",
    default=None,
    feeds=_SPREAD_FEEDS,
    check=checks.network,
)
CLUSTER_PORTS = Argument(
    "cluster_ports",
    str | None,
    'range of the ports that the tasks of a cluster listen on, such as `"30000-30999"`. None for free ports that the '
    "system chooses.",
    default=None,
    feeds=_FEEDS,
    check=checks.port_range,
)

CLUSTER = (
    NUM_WORKERS, NUM_PS, NUM_EVALUATORS, PARALLELISM, PLACEMENT, TF_CONFIG, PS_MAIN, CLUSTER_GRACE, CLUSTER_TIMEOUT,
    CLUSTER_NETWORK, CLUSTER_PORTS,
)  # fmt: skip

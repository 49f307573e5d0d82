"""Requests of runs, made of the transform's arguments: each with its working directory and its name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.cluster.counts import Counts
from beam_tfscript.cluster.ports import bypass_proxy
from beam_tfscript.cluster.tf_config import Task, make_addresses, tf_config_text
from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.feeds.run import RunRequest
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.files import machine_cache as env_cache
from beam_tfscript.files.staging import link_files
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec

# The task of a run without a cluster.
ALONE = Task("chief", 0, 0)


def make_request(
    staged: StagedScript,
    directory: str,
    *,
    feed: str,
    shard: int = 0,
    num_shards: int = 1,
    window: tuple[float, float] | None = None,
    attempt: int = 1,
    task: Task = ALONE,
    cluster: Mapping[str, Sequence[str]] | None = None,
    work_dir: str | None = None,
    **more: Any,
) -> RunRequest:
    """Return the request of one attempt of a run, and make its working directory.

    Args:
      staged: the script.
      directory: where the working directory is made, if none is given.
      feed, shard, num_shards, window, attempt: as in the script's config.
      task: the run's task in its cluster.
      cluster: task type -> addresses; None of a run without a cluster.
      work_dir: the working directory, which other tasks may share; None for one of its own.
      **more: further values for the config of this feed.

    Raises:
      ScriptEnvironmentError: the directory cannot be made.
    """
    options = staged.options
    work_dir = work_dir or os.path.join(directory, f"work-{attempt}")
    try:
        if not os.path.isdir(work_dir):
            os.mkdir(work_dir)
            link_files(staged.files, work_dir)
    except OSError as error:
        raise ScriptEnvironmentError(
            f"the run's directory {work_dir} cannot be made: {error}. Set TMPDIR to a directory with space."
        ) from error
    window_text = "" if window is None else f" window [{window[0]:.15g}, {window[1]:.15g})"
    rows_text = feed if feed == "bundles" else f"shard {shard}/{num_shards}"
    message = {
        **more,
        "feed": feed,
        "run": os.path.basename(directory),
        "shard": shard,
        "num_shards": num_shards,
        "window": window,
        "attempt": attempt,
        "num_workers": options.num_workers,
        "cluster": make_addresses(Counts(1, 0, 0)) if cluster is None else cluster,
        "task_type": task.type,
        "task_index": task.index,
        "work_dir": work_dir,
        "script": options.script.name,
        "entry": options.entry,
        "script_args": list(options.script_args),
        "user_params": options.user_params,
        "input_schema": None if options.input_schema is None else options.input_schema.to_wire(),
        "output_schema": None if options.output_schema is None else options.output_schema.to_wire(),
    }
    if task.shard is None:
        rows_text = f"of {num_shards} workers"
    label = f"{options.script.name} {task} {rows_text}{window_text} attempt {attempt}"
    return RunRequest(label, message, options.feed_timeout_s)


def make_task_request(
    staged: StagedScript, directory: str, *, task: Task, cluster: Mapping[str, Sequence[str]], **more: Any
) -> RunRequest:
    """Return the request of one task of a cluster, with its `TF_CONFIG`.

    All tasks have the same current directory, as in a cluster that is started by hand on one machine. So a relative
    path, such as that of a script's checkpoints, names the same file for workers and parameter servers.

    Args:
      staged: the script, whose arguments have a cluster.
      directory: of one attempt of the cluster.
      task: the task.
      cluster: task type -> addresses.
      **more: as for `make_request`.

    Raises:
      ScriptEnvironmentError: the working directory cannot be made.
    """
    options = staged.options
    assert options.cluster is not None
    text = tf_config_text(options.cluster.counts, cluster, task, when=options.cluster.tf_config)
    hosts = [address.rpartition(":")[0].strip("[]") for addresses in cluster.values() for address in addresses]
    environ = {} if text is None else {**bypass_proxy({**os.environ, **options.env}, hosts), "TF_CONFIG": text}
    return make_request(
        staged, directory,
        shard=task.shard or 0, num_shards=options.num_workers, task=task, cluster=cluster,
        work_dir=os.path.join(directory, "work"),
        environ=environ, is_hosted=task.type == "ps" and not options.cluster.ps_main, **more,
    )  # fmt: skip


def make_spec(options: ScriptOptions, python: str, runtime_path: str) -> ProcessSpec:
    """Return the specification of the processes that a transform's runs need."""
    return ProcessSpec(
        key=options.key,
        name=options.script.name,
        python=python,
        runtime_path=runtime_path,
        env=options.env,
        intra_op_parallelism=options.intra_op_parallelism,
        start_timeout_s=options.start_timeout_s,
        idle_timeout_s=options.idle_timeout_s,
        use_marker=env_cache.use_marker(python),
        log_level=options.log_level,
        accelerators=options.accelerators_per_process,
        max_runs=options.max_runs,
        max_rss_bytes=options.max_rss_bytes,
    )


def task_spec(spec: ProcessSpec, task: Task) -> ProcessSpec:
    """Return the specification of a task's process: only workers, and the chief among them, get accelerators.

    A parameter server only holds variables, and an evaluator would take a whole accelerator from a worker for a few
    steps now and then.
    """
    is_worker = task.type in ("chief", "worker")
    return spec if is_worker or spec.accelerators is None else dataclasses.replace(spec, accelerators=0)


def count_lease(process: ScriptProcess, wait_s: float) -> None:
    """Count the time that a run has waited for its process, and the process if it is new."""
    metrics.observe_seconds("process_wait_ms", wait_s)
    if process.runs == 0:
        metrics.add("process_starts")


def count_recycled(limit: str | None) -> None:
    """Count a process that was ended after its run.

    Args:
      limit: the argument whose limit it had reached; None for any other end.
    """
    if limit is not None:
        metrics.add(f"recycled_by_{limit}")


def process_limit(options: ScriptOptions) -> int:
    """Return how many processes of a transform one harness may have leased.

    More processes than the machine has cores would only share them. In the `stream` feed a run holds its process while
    it waits for rows. And a window's runs begin before those of the previous window have ended.
    """
    if options.max_processes is not None:
        return options.max_processes
    limit = max(2, os.cpu_count() or 1)
    return max(limit, 2 * options.num_workers) if options.feed == "stream" else limit

"""The transforms' options as frozen values: as given, and as resolved for the input.

Comes in: the keyword arguments of a transform. Goes out: `TransformOptions`, checked while the transform is made. Its
`resolve` gives `ScriptOptions` while the graph is built, when the input and the feed are known.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from beam_tfscript.data.schema import Schema
from beam_tfscript.data.shard_keys import make_shard_keys
from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.staging import ScriptFile
from beam_tfscript.options.arguments.argument import Argument
from beam_tfscript.options.arguments.runs import MAX_ATTEMPTS
from beam_tfscript.options.arguments.signatures import RUN_TF_SCRIPT, TRAIN_TF_SCRIPT
from beam_tfscript.options.cluster_options import ClusterOptions, check_cluster, count_tasks
from beam_tfscript.options.log_dir import check_log_dir
from beam_tfscript.options.script_files import collect_script
from beam_tfscript.options.secret_arguments import check_env, check_user_params
from beam_tfscript.options.spool_dir import check_spool_dir
from beam_tfscript.options.train_options import TrainOptions, check_directories
from beam_tfscript.python_env.python_env import PythonEnv, check_python_env
from beam_tfscript.worker.accelerators import VISIBLE_VARIABLE

# A training gives out few models, so its runs are polled less often than those that write rows.
_POLL_INTERVAL_OF_TRAINING_S = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _CommonOptions:
    """Options that the input does not change; plain values, so that they pickle into the job graph.

    Attributes:
      script: the main script; `files` holds it and the user files.
      num_workers: shards, or workers of the cluster.
      cluster: the tasks of a run; None where each shard is alone.
      log_level: number of a level of Python's logging.
      log_dir: directory of all runs' logs; None if logs are removed with their run.

    All other attributes are named as their argument, with `_s` for seconds.
    """

    script: ScriptFile
    files: tuple[ScriptFile, ...]
    entry: str
    script_args: tuple[str, ...]
    user_params: Any
    compat_params: str | None
    env: Mapping[str, str] = dataclasses.field(repr=False)
    python_env: PythonEnv
    output_schema: Schema | None
    output_as: str
    selected_cols: tuple[str, ...] | None
    shard_by: str | None
    num_workers: int
    cluster: ClusterOptions | None
    intra_op_parallelism: int
    accelerators_per_process: float | None
    max_processes: int | None
    max_runs: int | None
    max_rss_bytes: int | None
    transport: str | None
    keep_unacked_bytes: int
    keep_unacked_s: float
    poll_interval_s: float
    start_timeout_s: float
    feed_timeout_s: float
    idle_timeout_s: float | None
    log_level: int
    log_dir: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScriptOptions(_CommonOptions):
    """Options of one application of a transform, resolved for its input: all that a worker needs to know.

    Attributes:
      key: identity of the application; its processes are interchangeable.
      feed: the feed of its runs.
      max_attempts: attempts of a run, or in `bundles` of a batch, before the bundle fails.
      replay: in `stream`, True if a run is given all rows of its window again.
      input_schema: columns that the script is given; None for Examples that are passed on unread, or without rows.
      side_schemas: name of a side input -> its columns; None for Examples that are passed on unread.
      shard_keys: the key of each shard in the shuffle; in a cluster the same for all.
      spool_dir: directory for files of rows; None if all rows go through the shuffle.
      spool: "all" to spool all rows, "large" to spool those beyond a harness's share of the shuffle.
      meeting_dir: directory in which the tasks of a cluster on several machines meet; None of other runs.
      task_keys: the key of each task of such a cluster in the shuffle.
    """

    key: str
    feed: str
    max_attempts: int
    replay: bool
    input_schema: Schema | None
    side_schemas: Mapping[str, Schema | None]
    shard_keys: tuple[int, ...]
    spool_dir: str | None
    spool: str
    meeting_dir: str | None
    task_keys: tuple[int, ...]

    def without_files(self) -> ScriptOptions:
        """Return the options without the content of the script's files, for a stage that does not run the script."""
        return dataclasses.replace(self, script=dataclasses.replace(self.script, content=None), files=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformOptions(_CommonOptions):
    """Options as the pipeline's author gave them, checked.

    Attributes:
      feed: the feed; None to choose it by the input.
      max_attempts: None for the feed's default.
      replay: None to choose it by the input's windows.
      input_schema: columns of the input; None for those of the PCollection's element type.
      spool_dir: directory for files of rows; None for the job's `temp_location`.
    """

    feed: str | None
    max_attempts: int | None
    replay: bool | None
    input_schema: Schema | None
    spool_dir: str | None

    def resolve(
        self,
        feed: str,
        input_schema: Schema | None,
        *,
        windows_end: bool = True,
        side_schemas: Mapping[str, Schema | None] | None = None,
        is_streaming: bool = False,
        spool_dir: str | None = None,
        spool: str = "large",
        meeting_dir: str | None = None,
    ) -> ScriptOptions:
        """Return the options of one application of the transform.

        Each application has a key of its own, as one transform object may be applied twice.

        Args:
          feed: the feed.
          input_schema: columns that the script is given.
          windows_end: False for the global window, which never ends on unbounded input.
          side_schemas: name of a side input -> its columns.
          is_streaming: True for a streaming job.
          spool_dir, spool: as in `ScriptOptions`.
          meeting_dir: as in `ScriptOptions`.
        """
        common = {field.name: getattr(self, field.name) for field in dataclasses.fields(_CommonOptions)}
        return ScriptOptions(
            **common,
            key=uuid.uuid4().hex,
            feed=feed,
            max_attempts=self.max_attempts or MAX_ATTEMPTS.feed_defaults[feed],
            replay=windows_end if self.replay is None else bool(self.replay),
            input_schema=input_schema,
            side_schemas=dict(side_schemas or {}),
            shard_keys=(
                make_shard_keys(self.num_workers, is_streaming=is_streaming)
                if self.cluster is None
                else (0,) * self.num_workers
            ),
            spool_dir=spool_dir,
            spool=spool,
            meeting_dir=meeting_dir,
            task_keys=(
                make_shard_keys(self.cluster.counts.total, is_streaming=is_streaming)
                if self.cluster is not None and self.cluster.is_spread
                else ()
            ),
        )


def check_run_arguments(given: Mapping[str, Any]) -> TransformOptions:
    """Check the arguments of RunTFScript.

    Args:
      given: argument's name -> value, for all arguments; other names are ignored.

    Raises:
      ArgumentError: an argument cannot be used; the message says which, its value, and the rule.
      ScriptLoadError: the main script has a syntax error, or does not define the entry function.
    """
    values = _check_values(RUN_TF_SCRIPT, given)
    return _make_options(values, is_training=False, log_dir=check_log_dir(values["log_dir"]))


def check_train_arguments(given: Mapping[str, Any]) -> tuple[TransformOptions, TrainOptions]:
    """Check the arguments of TrainTFScript; those that a training does not have get RunTFScript's defaults.

    Args:
      given: argument's name -> value, for all arguments; other names are ignored.

    Raises:
      ArgumentError, ScriptLoadError: as `check_run_arguments`.
    """
    own_names = {argument.name for argument in TRAIN_TF_SCRIPT}
    other = [argument for argument in RUN_TF_SCRIPT if argument.name not in own_names]
    values = {
        **_check_values(other, {argument.name: argument.default for argument in other}),
        "poll_interval": _POLL_INTERVAL_OF_TRAINING_S,
        **_check_values(TRAIN_TF_SCRIPT, given),
    }
    values["feed"] = values["feed"] or "dataset"
    model_dir, checkpoint_dir = check_directories(values["model_dir"], values["checkpoint_dir"])
    options = _make_options(values, is_training=True, log_dir=check_log_dir(values["log_dir"], model_dir=model_dir))
    return options, TrainOptions(model_dir, checkpoint_dir, model_name=options.script.name[: -len(".py")])


def _check_values(arguments: Iterable[Argument], given: Mapping[str, Any]) -> dict[str, Any]:
    return {argument.name: argument.check_value(given[argument.name]) for argument in arguments}


def _make_options(values: Mapping[str, Any], *, is_training: bool, log_dir: str | None) -> TransformOptions:
    """Return the options of checked values; checks the rules that tie several arguments together."""
    cluster = check_cluster(values, is_training=is_training)
    _check_feed(values, cluster)
    env = check_env(values["env"])
    if values["accelerators_per_process"] is not None and VISIBLE_VARIABLE in env:
        raise ArgumentError(
            f"env has {VISIBLE_VARIABLE}, and accelerators_per_process sets this variable for each process: leave out "
            "one of the two."
        )
    script, files = collect_script(values["main_script_file"], values["user_files"], values["entry"])
    return TransformOptions(
        script=script,
        files=files,
        user_params=check_user_params(values["user_params"], values["compat_params"]),
        env=env,
        python_env=check_python_env(
            values["python_env"], requirements=values["requirements"], python_version=values["python_version"]
        ),
        # Shards that are alone may be counted by `parallelism` too, if there is no parameter server.
        num_workers=count_tasks(values).num_workers,
        cluster=cluster,
        log_dir=log_dir,
        spool_dir=check_spool_dir(values["spool_dir"]),
        **{argument.field: values[argument.name] for argument in RUN_TF_SCRIPT if argument.field},
    )


def _check_feed(values: Mapping[str, Any], cluster: ClusterOptions | None) -> None:
    """Refuse arguments that would have no effect in the feed that is given."""
    feed = values["feed"]
    if feed == "bundles" and cluster is not None:
        raise ArgumentError('feed="bundles" has no clusters and no trainings: use feed="dataset" or "stream".')
    if feed is not None:
        for argument in RUN_TF_SCRIPT:
            argument.check_feed(values[argument.name], feed)

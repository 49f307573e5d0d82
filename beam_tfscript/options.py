"""The transform's arguments as one frozen value, checked while the pipeline is built."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from beam_tfscript.cluster_options import ClusterOptions
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError
from beam_tfscript.outputs import FORMS
from beam_tfscript.script.python_env import PythonEnv, check_python_env
from beam_tfscript.script.source_check import check_source
from beam_tfscript.script.staging import ScriptFile, collect_file, limit_embedded
from beam_tfscript.script.uris import mask_name

FEEDS = ("dataset", "bundles", "stream")
# In the `dataset` feed a repeat means spooling all outputs, so it must be asked for; in the others it costs nothing.
_MAX_ATTEMPTS = {"dataset": 1, "bundles": 3, "stream": 3}


@dataclasses.dataclass(frozen=True)
class ScriptOptions:
    """Everything a worker needs to know; plain values, so that it pickles into the job graph.

    Attributes:
      key: names this use of the transform; its processes are interchangeable.
      script: the main script; `files` holds it and the user files.
      feed: how runs get their rows; None until the input is known.
      max_attempts, replay: None until the feed is known.
      cluster: the tasks of a run; None where each shard is alone.
      side_schemas: columns of the side inputs.
      others: as the transform's arguments of the same name, with `num_workers` resolved.
    """

    key: str
    script: ScriptFile
    files: tuple[ScriptFile, ...]
    entry: str
    script_args: tuple[str, ...]
    user_params: Any
    python_env: PythonEnv
    input_schema: Schema | None
    output_schema: Schema | None
    selected_cols: tuple[str, ...] | None
    num_workers: int
    intra_op_parallelism: int
    feed: str | None
    max_attempts: int | None
    max_processes: int | None
    replay: bool | None
    poll_interval_s: float
    start_timeout_s: float
    feed_timeout_s: float
    idle_timeout_s: float | None
    env: Mapping[str, str]
    shard_by: str | None
    output_as: str
    compat_params: str | None = None
    cluster: ClusterOptions | None = None
    side_schemas: Mapping[str, Schema | None] = dataclasses.field(default_factory=dict)

    def for_feed(self, feed: str, *, has_end: bool = True) -> ScriptOptions:
        """The same with the defaults of the feed.

        Args:
          feed: the feed.
          has_end: whether the input's windows end.
        """
        return dataclasses.replace(
            self,
            feed=feed,
            max_attempts=self.max_attempts or _MAX_ATTEMPTS[feed],
            replay=has_end if self.replay is None else self.replay,
        )

    def without_files(self) -> ScriptOptions:
        """The same without the content of the script's files, for what does not run it."""
        return dataclasses.replace(self, script=dataclasses.replace(self.script, content=None), files=())


def check_options(
    *,
    main_script_file: str,
    output_schema: str | Schema | None,
    user_files: Sequence[str],
    user_params: Any,
    selected_cols: Sequence[str] | None,
    num_workers: int | None,
    intra_op_parallelism: int,
    input_schema: str | Schema | None,
    python_env: str | None,
    requirements: Sequence[str] | None,
    python_version: str | None,
    feed: str | None,
    entry: str,
    script_args: Sequence[str],
    max_attempts: int | None,
    max_processes: int | None,
    replay: bool | None,
    poll_interval: float,
    start_timeout: float,
    feed_timeout: float,
    idle_timeout: float | None,
    env: Mapping[str, str] | None,
    shard_by: str | None,
    output_as: str,
    compat_params: str | None = None,
    cluster: ClusterOptions | None = None,
) -> ScriptOptions:
    """Checks the arguments of the transform.

    Raises:
      ArgumentError: one of them cannot be used; the message says which, its value, and the rule.
      ScriptLoadError: the main script has a syntax error, or does not define the entry function.
    """
    if feed is not None and feed not in FEEDS:
        raise ArgumentError(f"feed must be one of {', '.join(map(repr, FEEDS))} or None, got {feed!r}.")
    _check_feed(feed, cluster, num_workers=num_workers, shard_by=shard_by, replay=replay)
    if output_as not in FORMS:
        raise ArgumentError(f"output_as must be one of {', '.join(map(repr, FORMS))}, got {output_as!r}.")
    script, files = _collect_files(main_script_file, _strings("user_files", user_files))
    entry = _identifier("entry", entry)
    check_source(script, entry)
    return ScriptOptions(
        key=uuid.uuid4().hex,
        script=script,
        files=files,
        entry=entry,
        script_args=_strings("script_args", script_args),
        user_params=_user_params(user_params, compat_params),
        python_env=check_python_env(python_env, requirements=requirements, python_version=python_version),
        input_schema=_schema(input_schema),
        output_schema=_schema(output_schema),
        selected_cols=None if selected_cols is None else _columns("selected_cols", selected_cols),
        num_workers=_count_workers(num_workers, cluster),
        intra_op_parallelism=_at_least("intra_op_parallelism", intra_op_parallelism, 0),
        feed=feed,
        max_attempts=None if max_attempts is None else _at_least("max_attempts", max_attempts, 1),
        max_processes=None if max_processes is None else _at_least("max_processes", max_processes, 1),
        replay=replay,
        poll_interval_s=_seconds("poll_interval", poll_interval),
        start_timeout_s=_seconds("start_timeout", start_timeout),
        feed_timeout_s=_seconds("feed_timeout", feed_timeout),
        idle_timeout_s=None if idle_timeout is None else _seconds("idle_timeout", idle_timeout),
        env=_environment(env),
        shard_by=None if shard_by is None else _string("shard_by", shard_by),
        output_as=output_as,
        compat_params=compat_params,
        cluster=cluster,
    )


def _count_workers(num_workers: int | None, cluster: ClusterOptions | None) -> int:
    if cluster is not None:
        return cluster.counts.num_workers
    return 1 if num_workers is None else _at_least("num_workers", num_workers, 1)


def _check_feed(feed: str | None, cluster: ClusterOptions | None, **arguments: Any) -> None:
    """Refuses what has no meaning in the feed, which would otherwise look as if it had one."""
    if feed == "bundles":
        if cluster is not None:
            raise ArgumentError('feed="bundles" has no clusters and no trainings: use feed="dataset" or "stream".')
        for name in ("num_workers", "shard_by"):
            if arguments[name] is not None:
                raise ArgumentError(
                    f'{name} has no meaning in feed="bundles", where rows are not shuffled and there are no shards: '
                    "leave it out. max_processes says how many processes a worker may have."
                )
    replay = arguments["replay"]
    if replay is not None and feed not in ("stream", None):
        raise ArgumentError(
            f'replay is for feed="stream", got feed={feed!r}; max_attempts says how often others repeat.'
        )
    if replay not in (None, True, False):
        raise ArgumentError(f"replay must be True, False or None, got {replay!r}.")


def _collect_files(main: str, others: Sequence[str]) -> tuple[ScriptFile, tuple[ScriptFile, ...]]:
    script = collect_file("main_script_file", _string("main_script_file", main))
    if not script.name.endswith(".py") or not script.name[:-3].isidentifier() or script.is_directory:
        raise ArgumentError(
            f"main_script_file must be a Python file whose name can be imported, such as score.py, got "
            f"{mask_name(main)!r}."
        )
    files = {script.name: script}
    for uri in others:
        file = collect_file("user_files", uri)
        known = files.setdefault(file.name, file)
        if (known.uri, known.sha256) != (file.uri, file.sha256):
            raise ArgumentError(
                f"user_files: {known.uri} and {file.uri} have the same name, and both would be {file.name} beside the "
                "script: rename one."
            )
    return script, limit_embedded(files.values())


def _schema(schema: str | Schema | None) -> Schema | None:
    return Schema.parse(schema) if isinstance(schema, str) else schema


def _json_value(value: Any) -> Any:
    """`user_params` as JSON keeps it, from a value or from JSON text."""
    try:
        if isinstance(value, str):
            return json.loads(value)
        text = json.dumps({} if value is None else value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"user_params must be JSON: {error}; got {value!r}.") from error
    _check_keys(value)
    return json.loads(text)


def _user_params(value: Any, compat_params: str | None) -> Any:
    """`user_params` with JSON's types, or each of them a string where `compat_params` asks for that."""
    params = _json_value(value)
    if compat_params is None:
        return params
    if compat_params != "strings":
        raise ArgumentError(f'compat_params must be "strings" or None, got {compat_params!r}.')
    if not isinstance(params, dict):
        raise ArgumentError(f'compat_params="strings" is for user_params with names, got {params!r}.')
    # Null stays null: there is no text that scripts would take for it.
    kept = (str, type(None))
    return {
        name: value if isinstance(value, kept) else json.dumps(value, ensure_ascii=False)
        for name, value in params.items()
    }


def _check_keys(value: Any) -> None:
    # json.dumps turns other keys into text without a word, and the script would look for them in vain.
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ArgumentError(f"user_params: keys must be strings, got {key!r}.")
            _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_keys(inner)


def _columns(argument: str, names: Sequence[str]) -> tuple[str, ...]:
    columns = _strings(argument, names)
    if not columns or len(set(columns)) != len(columns):
        raise ArgumentError(f"{argument} must name one or more columns, each once, got {list(columns)!r}.")
    return columns


def _strings(argument: str, values: Sequence[str]) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise ArgumentError(f"{argument} must be a list of strings, got {values!r}.")
    return tuple(values)


def _string(argument: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{argument} must be a string that is not empty, got {value!r}.")
    return value


def _identifier(argument: str, value: str) -> str:
    if not _string(argument, value).isidentifier():
        raise ArgumentError(f"{argument} must be the name of a function, got {value!r}.")
    return value


def _at_least(argument: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{argument} must be a whole number of at least {least}, got {value!r}.")
    return value


def _seconds(argument: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ArgumentError(f"{argument} must be a number of seconds greater than 0, got {value!r}.")
    return float(value)


def _environment(env: Mapping[str, str] | None) -> Mapping[str, str]:
    env = dict(env or {})
    for key, value in env.items():
        if not isinstance(key, str) or not isinstance(value, str) or not key or "=" in key or "\0" in key + value:
            raise ArgumentError(f"env must map names of variables to strings, got {key!r}: {value!r}.")
    return env

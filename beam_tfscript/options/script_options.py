"""The transform's arguments as one frozen value, checked while the pipeline is built."""

from __future__ import annotations

import dataclasses
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError
from beam_tfscript.files import uris
from beam_tfscript.files.siblings import find_siblings
from beam_tfscript.files.source_check import check_source
from beam_tfscript.files.staging import ScriptFile, collect_file, limit_embedded
from beam_tfscript.files.uris import mask_name
from beam_tfscript.options.cluster_options import ClusterOptions
from beam_tfscript.options.secret_arguments import check_env, check_user_params, type_name
from beam_tfscript.python_env.python_env import PythonEnv, check_python_env

FEEDS = ("dataset", "bundles", "stream")
# In the `dataset` feed a repeat means spooling all outputs, so it must be asked for; in the others it costs nothing.
_MAX_ATTEMPTS = {"dataset": 1, "bundles": 3, "stream": 3}
# A script has at most some 16 MiB of rows on their way to it, and a few chunks wait; so of a run that is alone nothing
# is given up, unless a batch takes longer than that.
KEEP_UNACKED_BYTES = 64 << 20
KEEP_UNACKED_S = 600.0

OUTPUT_FORMS = ("row", "dict", "example", "record_batch")


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
    keep_unacked_bytes: int
    keep_unacked_s: float
    poll_interval_s: float
    start_timeout_s: float
    feed_timeout_s: float
    idle_timeout_s: float | None
    env: Mapping[str, str] = dataclasses.field(repr=False)
    shard_by: str | None
    output_as: str
    compat_params: str | None = None
    log_level: int = logging.INFO
    cluster: ClusterOptions | None = None
    side_schemas: Mapping[str, Schema | None] = dataclasses.field(default_factory=dict)
    log_dir: str | None = None

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
    keep_unacked_bytes: int,
    keep_unacked_seconds: float,
    poll_interval: float,
    start_timeout: float,
    feed_timeout: float,
    idle_timeout: float | None,
    env: Mapping[str, str] | None,
    shard_by: str | None,
    output_as: str,
    compat_params: str | None = None,
    log_level: str | int = logging.INFO,
    cluster: ClusterOptions | None = None,
    log_dir: str | None = None,
) -> ScriptOptions:
    """Checks the arguments of the transform.

    Raises:
      ArgumentError: one of them cannot be used; the message says which, its value, and the rule.
      ScriptLoadError: the main script has a syntax error, or does not define the entry function.
    """
    if feed is not None and feed not in FEEDS:
        raise ArgumentError(f"feed must be one of {', '.join(map(repr, FEEDS))} or None, got {feed!r}.")
    _check_feed(feed, cluster, num_workers=num_workers, shard_by=shard_by, replay=replay)
    if output_as not in OUTPUT_FORMS:
        raise ArgumentError(f"output_as must be one of {', '.join(map(repr, OUTPUT_FORMS))}, got {output_as!r}.")
    script, files = _collect_files(main_script_file, _strings("user_files", user_files))
    entry = _identifier("entry", entry)
    check_source(script, entry)
    return ScriptOptions(
        key=uuid.uuid4().hex,
        script=script,
        files=files,
        entry=entry,
        script_args=_strings("script_args", script_args),
        user_params=check_user_params(user_params, compat_params),
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
        keep_unacked_bytes=_at_least("keep_unacked_bytes", keep_unacked_bytes, 0),
        keep_unacked_s=_seconds("keep_unacked_seconds", keep_unacked_seconds),
        poll_interval_s=_seconds("poll_interval", poll_interval),
        start_timeout_s=_seconds("start_timeout", start_timeout),
        feed_timeout_s=_seconds("feed_timeout", feed_timeout),
        idle_timeout_s=None if idle_timeout is None else _seconds("idle_timeout", idle_timeout),
        env=check_env(env),
        shard_by=None if shard_by is None else _string("shard_by", shard_by),
        output_as=output_as,
        compat_params=compat_params,
        log_level=_level(log_level),
        cluster=cluster,
        log_dir=log_dir,
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
    if callable(main):
        raise ArgumentError(
            f"main_script_file must be a file that defines the function, and not the function "
            f"{getattr(main, '__name__', '')!r} itself: the script runs in another process, and in another Python if "
            'need be. Write "score.py" there; in a notebook, a cell that begins with %%writefile score.py makes it.'
        )
    script = collect_file("main_script_file", _string("main_script_file", main))
    if script.is_directory or not script.name.endswith(".py") or script.name == ".py":
        why = "it is a directory" if script.is_directory else "its name does not end with .py"
        raise ArgumentError(
            f"main_script_file must be a Python file, such as score.py, got {mask_name(main)!r}: {why}. Where the "
            "script is one file of several, name that file here, and the rest in user_files."
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
    local = uris.local_path(uris.split_sha256("main_script_file", main)[0])
    for path in () if local is None else find_siblings(local, files):
        file = collect_file("a module beside main_script_file", path)
        files[file.name] = dataclasses.replace(file, is_sibling=True)
    return script, limit_embedded(files.values())


def _schema(schema: str | Schema | None) -> Schema | None:
    return Schema.parse(schema) if isinstance(schema, str) else schema


def _columns(argument: str, names: Sequence[str]) -> tuple[str, ...]:
    columns = _strings(argument, names)
    if not columns or len(set(columns)) != len(columns):
        raise ArgumentError(f"{argument} must name one or more columns, each once, got {list(columns)!r}.")
    return columns


def _strings(argument: str, values: Sequence[str]) -> tuple[str, ...]:
    # None of the values is shown: a URI may hold a password, and an argument of the script a token.
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentError(f"{argument} must be a list of strings, got {type_name(values)}.")
    values = tuple(values)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ArgumentError(f"{argument} must be a list of strings, got {type_name(value)} at index {index}.")
    return values


def _string(argument: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        got = "''" if value == "" else type_name(value)
        raise ArgumentError(f"{argument} must be a string that is not empty, got {got}.")
    return value


def _identifier(argument: str, value: str) -> str:
    if not _string(argument, value).isidentifier():
        raise ArgumentError(f"{argument} must be the name of a function, got {value!r}.")
    return value


def _level(value: str | int) -> int:
    """The number of a level of Python's logging; a name may be in lower case."""
    level = logging.getLevelName(value.upper()) if isinstance(value, str) else value
    if isinstance(level, bool) or not isinstance(level, int) or level < 1:
        raise ArgumentError(
            f"log_level must be a level of Python's logging, such as 'INFO', 'WARNING' or 30, got {value!r}."
        )
    return level


def _at_least(argument: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{argument} must be a whole number of at least {least}, got {value!r}.")
    return value


def _seconds(argument: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ArgumentError(f"{argument} must be a number of seconds greater than 0, got {value!r}.")
    return float(value)

"""What a job's page shows of the transform: its arguments, without what they keep secret.

Comes in: the checked arguments. Goes out: name -> text or number, as Beam's `display_data` takes them.

Display data is kept in logs and shown to everyone who may look at the job, so whatever could be a password
is masked: the values of `env` always, and elsewhere what its name or its place in a URI gives away.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any

from beam_tfscript.files.staging import ScriptFile
from beam_tfscript.files.uris import MASK, mask_name, mask_uri, mask_uris
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.python_env.python_env import PythonEnv

__all__ = ["display_items"]

# Longer, and a job's page becomes unreadable; shorter, and a schema of 30 columns would be cut.
_MAX_CHARS = 1000

_OPTION = re.compile(r"-{0,2}[\w.-]+")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = {"apikey", "auth", "credential", "credentials", "passphrase", "passwd", "password", "pwd", "secret"}
_SECRET_WORDS |= {"accesskey", "authorization", "bearer", "secrets", "sig", "signature", "token"}
_SECRET_PAIRS = {("access", "key"), ("account", "key"), ("api", "key"), ("private", "key"), ("shared", "key")}


def display_items(options: ScriptOptions) -> dict[str, str | int | float]:
    """What is shown of the transform's arguments; those that are not given are left out.

    Args:
      options: the arguments.

    Returns:
      Argument's name -> its value, short and without secrets. `script_sha256` is the beginning of the main script's
      hash, which tells whether two jobs ran the same one; it is there if it is known while the pipeline is built.
    """
    items = {
        "main_script_file": _describe_file(options.script),
        "script_sha256": _digest(options.script),
        "entry": options.entry,
        "feed": options.feed,
        "num_workers": options.num_workers,
        "python_env": None if options.python_env == PythonEnv() else str(options.python_env),
        "num_ps": options.cluster.counts.num_ps if options.cluster else None,
        "num_evaluators": options.cluster.counts.num_evaluators if options.cluster else None,
        "side_inputs": _join(options.side_schemas),
        "input_schema": _text(options.input_schema),
        "output_schema": _text(options.output_schema),
        "output_as": options.output_as,
        "selected_cols": _join(options.selected_cols or ()),
        "shard_by": options.shard_by,
        "user_files": _join(_describe_file(file) for file in options.files if file != options.script),
        "user_params": _json(options.user_params),
        "compat_params": options.compat_params,
        "log_level": None if options.log_level == logging.INFO else logging.getLevelName(options.log_level),
        "script_args": _join(_mask_arguments(options.script_args), " "),
        "env": _join(sorted(options.env)),
        "intra_op_parallelism": options.intra_op_parallelism,
        "log_dir": None if options.log_dir is None else mask_uri(options.log_dir),
        "max_attempts": options.max_attempts,
        "max_processes": options.max_processes,
        "replay": None if options.replay is None or options.feed != "stream" else int(options.replay),
        "keep_unacked_bytes": None if options.feed != "stream" or options.replay else options.keep_unacked_bytes,
        "keep_unacked_s": None if options.feed != "stream" or options.replay else options.keep_unacked_s,
        "idle_timeout_s": options.idle_timeout_s,
        "start_timeout_s": options.start_timeout_s,
        "feed_timeout_s": options.feed_timeout_s,
    }
    return {name: _shorten(value) for name, value in items.items() if value is not None}


def _describe_file(file: ScriptFile) -> str:
    """Where a remote file is; of a local one only the name, as its directory is the submitter's own affair."""
    return mask_name(file.uri) if "://" in file.uri else file.name


def _digest(script: ScriptFile) -> str | None:
    return script.sha256 and script.sha256[:12]


def _mask_value(value: Any, name: str = "") -> Any:
    """A JSON value with the strings masked that are secret by the name of the key they are under."""
    if isinstance(value, dict):
        return {key: _mask_value(inner, key if not _is_secret(name) else name) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask_value(inner, name) for inner in value]
    if value is not None and _is_secret(name):
        return MASK
    return mask_uris(value) if isinstance(value, str) else value


def _mask_arguments(arguments: Iterable[str]) -> list[str]:
    """A command line with what follows a secret option masked, be it `--token=value` or `--token value`."""
    shown: list[str] = []
    is_value = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if is_value and not argument.startswith("--"):
            shown.append(MASK)
            is_value = False
            continue
        is_value = False
        if not _is_secret(name):
            shown.append(mask_uris(argument))
        elif not _OPTION.fullmatch(name):  # such as a header, or JSON
            shown.append(MASK)
        elif equals:
            shown.append(f"{name}={MASK}")
        else:
            shown.append(name)
            is_value = name.startswith("-")
    return shown


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or any(pair in _SECRET_PAIRS for pair in zip(words, words[1:]))


def _json(value: Any) -> str | None:
    return json.dumps(_mask_value(value), ensure_ascii=False) if value else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _join(values: Iterable[str], separator: str = ", ") -> str | None:
    return separator.join(values) or None


def _shorten(value: str | int | float) -> str | int | float:
    if isinstance(value, str) and len(value) > _MAX_CHARS:
        return f"{value[:_MAX_CHARS]}… ({len(value)} characters)"
    return value

"""Flags that both commands share, from the declaration of the transforms' arguments, and back to arguments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from beam_tfscript.options.arguments.argument import Argument, Flag
from beam_tfscript.options.arguments.signatures import RUN_TF_SCRIPT, TRAIN_TF_SCRIPT


def add_script_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the script, its rows and its environment."""
    groups: dict[str, Any] = {"": parser}
    for argument, flag in _flags():
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        groups[flag.group].add_argument(_name(argument, flag), help=_help(argument, flag), **_settings(argument, flag))


def names_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the names of a parser's flags, in all their spellings."""
    return [name for action in parser._actions for name in action.option_strings]


def transform_arguments(flags: argparse.Namespace, *, input_schema: str | None) -> dict[str, Any]:
    """Return the arguments that both transforms take; without a flag, the transform's default holds.

    Args:
      flags: the parsed flags.
      input_schema: the columns, given or guessed.

    Raises:
      ArgumentError: a flag cannot be used.
    """
    common = {argument.name for argument in TRAIN_TF_SCRIPT}
    arguments = {}
    for argument, flag in _flags():
        value = getattr(flags, _name(argument, flag).lstrip("-").replace("-", "_"))  # as argparse stores it
        if argument.name in common and value is not None:
            arguments[argument.name] = flag.parse(value) if flag.is_list else value
    return {**arguments, "input_schema": input_schema}


def _flags() -> Iterator[tuple[Argument, Flag]]:
    for argument in RUN_TF_SCRIPT:
        if argument.flag is not None:
            yield argument, argument.flag


def _name(argument: Argument, flag: Flag) -> str:
    """Return the name of a flag, such as `--num-workers`."""
    return flag.name or "--" + argument.name.replace("_", "-")


def _settings(argument: Argument, flag: Flag) -> dict[str, Any]:
    """Return keyword arguments of `add_argument`; the default of each flag is None, for "not given"."""
    if flag.is_list:  # parsed as a whole, by `transform_arguments`
        return {"metavar": flag.metavar, "action": "append"}
    if argument.choices:
        return {"choices": argument.choices}
    if not flag.metavar:
        return {"action": "store_true", "default": None}
    return {"metavar": flag.metavar, "type": flag.parse}


def help_text(argument: Argument, *notes: str) -> str:
    """Return one line about an argument: its meaning, notes, and its default if that is a text or a number."""
    default = argument.default
    has_default = isinstance(default, (str, int, float)) and not isinstance(default, bool)
    return "; ".join(filter(None, (argument.summary, *notes, f"{default} by default" if has_default else "")))


def _help(argument: Argument, flag: Flag) -> str:
    return help_text(argument, flag.note) + ("; repeat the flag for more" if flag.is_list else "")

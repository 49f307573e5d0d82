"""The flags that both commands share, to the arguments of the transforms."""

from __future__ import annotations

import argparse
import os
from typing import Any

from beam_tfscript.errors import ArgumentError
from beam_tfscript.options.cluster_options import PLACEMENTS
from beam_tfscript.options.script_options import FEEDS

_DEFAULT_THREADS = 4


def add_script_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what is said of a script, its rows and its environment."""
    parser.add_argument("script", metavar="SCRIPT", help="the Python file that defines main(config); a path or a URI")
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--input-schema", metavar="TEXT", help="columns, such as 'id string, x array<float>'; else guessed"
    )
    rows.add_argument("--output-schema", metavar="TEXT", help="columns that the script writes; none: no output")
    rows.add_argument("--selected-cols", metavar="A,B", help="columns that the script is given; all by default")
    script = parser.add_argument_group("script")
    script.add_argument("--feed", choices=FEEDS, help="how the script gets its rows; dataset by default")
    script.add_argument("--entry", default="main", metavar="NAME", help="the function to call; main by default")
    script.add_argument("--user-params", metavar="JSON", help="what the script finds as config.user_params")
    script.add_argument(
        "--compat-params", choices=("strings",), help="give each of them as text, as some other platforms do"
    )
    script.add_argument(
        "--user-file", action="append", default=[], metavar="URI", help="a file beside the script; again for more"
    )
    script.add_argument(
        "--script-arg", action="append", default=[], metavar="ARG", help="one of sys.argv[1:]; again for more"
    )
    script.add_argument(
        "--env", action="append", default=[], metavar="K=V", help="an environment variable; again for more"
    )
    script.add_argument("--log-dir", metavar="URI", help="where what scripts write to config.log_dir is kept")
    script.add_argument("--num-workers", type=int, metavar="N", help="shards, or workers of a cluster")
    script.add_argument("--num-ps", type=int, metavar="N", help="parameter servers of a cluster")
    script.add_argument(
        "--ps-main", action="store_true", help="call the function on parameter servers too, which else just serve"
    )
    script.add_argument("--placement", choices=PLACEMENTS, help="whether shards are alone, or one cluster")
    script.add_argument(
        "--intra-op-parallelism", type=int, default=_DEFAULT_THREADS, metavar="N", help="threads of TensorFlow"
    )
    script.add_argument(
        "--log-level", metavar="LEVEL", help="the level at which what the script prints is logged; INFO by default"
    )
    where = parser.add_argument_group("the script's Python")
    where.add_argument("--python-env", metavar="URI", help="a directory with bin/python, or an archive of one")
    where.add_argument(
        "--requirements", action="append", metavar="LINE",
        help="instead, a package to install, such as tensorflow==2.3.4, or a requirements .txt; again for more",
    )  # fmt: skip
    where.add_argument("--python-version", metavar="3.8", help="the Python to install them for")
    where.add_argument(
        "--start-timeout", type=float, default=120, metavar="SECONDS", help="until TensorFlow is imported"
    )


def names_of(parser: argparse.ArgumentParser) -> list[str]:
    """The names of a parser's flags, in each of their spellings."""
    return [name for action in parser._actions for name in action.option_strings]


def transform_arguments(flags: argparse.Namespace, *, input_schema: str | None) -> dict[str, Any]:
    """The arguments that both transforms take.

    Args:
      flags: as parsed.
      input_schema: the columns, given or guessed.

    Raises:
      ArgumentError: a flag cannot be used.
    """
    arguments = {
        "main_script_file": flags.script,
        "user_files": flags.user_file,
        "user_params": flags.user_params,
        "selected_cols": _names(flags.selected_cols),
        "num_workers": flags.num_workers,
        "num_ps": flags.num_ps,
        "ps_main": flags.ps_main,
        "placement": flags.placement,
        "intra_op_parallelism": flags.intra_op_parallelism,
        "input_schema": input_schema,
        "python_env": flags.python_env,
        "requirements": None if flags.requirements is None else _requirements(flags.requirements),
        "python_version": flags.python_version,
        "entry": flags.entry,
        "script_args": flags.script_arg,
        "start_timeout": flags.start_timeout,
        "log_dir": flags.log_dir,
        "env": dict(map(_variable, flags.env)),
    }
    if flags.compat_params is not None:
        arguments["compat_params"] = flags.compat_params
    if flags.log_level is not None:
        arguments["log_level"] = int(flags.log_level) if flags.log_level.isdecimal() else flags.log_level
    return arguments


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _requirements(values: list[str]) -> list[str]:
    """Lines of requirements; those of a file in its place."""
    lines = []
    for value in values:
        if value.endswith(".txt") and os.path.exists(value):
            with open(value, encoding="utf-8") as file:
                lines += [line.strip() for line in file if line.strip() and not line.lstrip().startswith("#")]
        else:
            lines.append(value)
    return lines


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        # The text is not shown: it may be the value of a variable whose name was forgotten.
        raise ArgumentError(f"--env must be NAME=VALUE, got {'no name' if equals else 'no equals sign'} in one.")
    return name, value

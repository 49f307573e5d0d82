"""The command `beam-tfscript`: flags to a command, errors to a line on what to do, all to an exit status.

beam-tfscript --version                      the versions of this package and of what it runs on
beam-tfscript check SCRIPT --data FILE …     the script on a few rows, without a pipeline
beam-tfscript run SCRIPT --input … …         whole files, through Beam
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence

from beam_tfscript import __version__
from beam_tfscript.cli import advice, arguments, formats
from beam_tfscript.errors import ArgumentError, TFScriptError

# The names that TensorFlow is installed by.
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tensorflow-intel", "tensorflow-rocm", "tf-nightly")
_MISSING = "not installed"
_OK, _FAILED, _MISUSED, _INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      argv: what was typed behind the command's name; None for what was typed indeed.

    Returns:
      The exit status: 0 all is well, 1 the script, its environment or the rows failed, 2 the flags cannot be used.
    """
    parser, commands = _make_parser()
    flags, rest = parser.parse_known_args(argv)
    own = arguments.names_of(commands[flags.command])
    if rest and flags.command == "check":
        parser.error(_explain_unknown(rest, own))
    try:
        if flags.command == "check":
            from beam_tfscript.cli.check import check

            return check(flags)
        from beam_tfscript.cli.whole_files import run

        return run(flags, rest, own)
    except TFScriptError as error:
        return _explain(error)
    except RuntimeError as error:
        if advice.is_interrupt(error):
            return _tell_interrupted()
        cause = advice.find_cause(error)
        if cause is None:
            raise
        return _explain(cause)
    except KeyboardInterrupt:
        return _tell_interrupted()


def _tell_interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return _INTERRUPTED


def _explain(error: TFScriptError) -> int:
    sys.stdout.flush()
    print(f"\n{type(error).__name__}: {error}\n\nWhat to do: {advice.advise(error)}", file=sys.stderr)
    return _MISUSED if isinstance(error, ArgumentError) else _FAILED


def _explain_unknown(rest: Sequence[str], own: Sequence[str]) -> str:
    name = next((argument for argument in rest if argument.startswith("-")), rest[0]).partition("=")[0]
    if not name.startswith("-"):
        return f"check takes one script, and no argument {name!r} beside it"
    from beam_tfscript.cli.unknown_flags import suggest

    return f"check has no flag {name}.{suggest(name, own)}"


class _ShowVersions(argparse.Action):
    """Prints versions and ends; they are looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(versions())
        parser.exit()


def versions() -> str:
    """The versions of this package, Python, Beam and TensorFlow; nothing of them is imported."""
    lines = [f"beam-tfscript {__version__}", f"Python {platform.python_version()} ({sys.executable})"]
    lines.append(f"apache-beam {_version_of('apache-beam')}")
    found = {name: _version_of(name) for name in _TENSORFLOWS}
    lines += [f"{name} {version}" for name, version in found.items() if version != _MISSING] or [
        f"tensorflow {_MISSING}"
    ]
    return "\n".join(lines)


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return _MISSING


def _make_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser, and those of its commands by their names."""
    parser = argparse.ArgumentParser(
        prog="beam-tfscript", description="TensorFlow scripts over rows.", allow_abbrev=False
    )
    parser.add_argument(
        "--version",
        action=_ShowVersions,
        nargs=0,
        help="show the versions of this, Python, Beam and TensorFlow",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_check(commands)
    _add_run(commands)
    return parser, commands.choices


def _add_check(commands: argparse._SubParsersAction) -> None:
    check = commands.add_parser(
        "check", allow_abbrev=False, help="run a script on a few rows, without a pipeline, and say what is wrong",
    )  # fmt: skip
    check.add_argument("--data", required=True, metavar="FILE", help="a TFRecord, CSV, JSON lines or Parquet file")
    check.add_argument("--input-format", choices=formats.SUFFIXES, help="its format, where its name does not tell")
    check.add_argument("--rows", type=int, default=20, metavar="N", help="how many rows; 20 by default")
    check.add_argument("--train", action="store_true", help="call it as TrainTFScript does, and show the model")
    check.add_argument(
        "--feed-timeout", type=float, default=120, metavar="SECONDS", help="for a script that does not read its rows",
    )  # fmt: skip
    arguments.add_script_flags(check)


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run", allow_abbrev=False, help="run a script over whole files, through Beam",
        epilog="Other flags must be Beam's pipeline options, such as --runner.",
    )  # fmt: skip
    run.add_argument("--input", required=True, metavar="GLOB", help="TFRecord, CSV, JSON lines or Parquet files")
    run.add_argument("--input-format", choices=formats.SUFFIXES, help="their format, where the names do not tell")
    run.add_argument("--output", metavar="PREFIX", help="how the names of the files written begin")
    run.add_argument("--format", choices=formats.SUFFIXES, help="the format to write; that of the input by default")
    run.add_argument("--train", action="store_true", help="train a model instead of writing rows")
    run.add_argument("--model-dir", metavar="DIR", help="where the model is published, with --train")
    run.add_argument("--max-attempts", type=int, metavar="N", help="how many times a run is tried")
    arguments.add_script_flags(run)


if __name__ == "__main__":
    sys.exit(main())

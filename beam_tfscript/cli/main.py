"""Entry point of the command `beam-tfscript`: arguments in; an exit status out, and advice on errors on stderr.

- `beam-tfscript --version`: print the versions of this package, Python, Beam and TensorFlow
- `beam-tfscript check SCRIPT --data FILE …`: run a script on a few rows, without a pipeline
- `beam-tfscript run SCRIPT --input GLOB …`: run a script over whole files, through Beam
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

# Names of the distributions that install the module `tensorflow`.
_TENSORFLOW_DISTRIBUTIONS = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-macos",
    "tensorflow-intel",
    "tensorflow-rocm",
    "tf-nightly",
)
_MISSING = "not installed"
# Exit statuses; 130 is 128 + SIGINT, as shells report it.
_FAILED, _MISUSED, _INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
      argv: arguments; None means `sys.argv[1:]`.

    Returns:
      The exit status: 0 for success, 1 for a failure of the script, its environment or the rows, 2 for flags that
      cannot be used, 130 after Ctrl-C.
    """
    parser, commands = _make_parser()
    flags, other_flags = parser.parse_known_args(argv)
    own_flags = arguments.names_of(commands[flags.command])
    if other_flags and flags.command == "check":
        parser.error(_explain_unknown(other_flags, own_flags))
    try:
        if flags.command == "check":
            from beam_tfscript.cli.check import check

            return check(flags)
        from beam_tfscript.cli.run import run

        return run(flags, other_flags, own_flags)
    except TFScriptError as error:
        return _report(error)
    except RuntimeError as error:
        if advice.is_interrupt(error):
            return _report_interrupt()
        cause = advice.find_cause(error)
        if cause is None:
            raise
        return _report(cause)
    except KeyboardInterrupt:
        return _report_interrupt()


def _report_interrupt() -> int:
    print("interrupted", file=sys.stderr)
    return _INTERRUPTED


def _report(error: TFScriptError) -> int:
    """Print an error and advice on it; return the exit status."""
    sys.stdout.flush()
    print(f"\n{type(error).__name__}: {error}\n\nWhat to do: {advice.advise(error)}", file=sys.stderr)
    return _MISUSED if isinstance(error, ArgumentError) else _FAILED


def _explain_unknown(unknown: Sequence[str], own_flags: Sequence[str]) -> str:
    name = next((argument for argument in unknown if argument.startswith("-")), unknown[0]).partition("=")[0]
    if not name.startswith("-"):
        return f"check takes one script, and no argument {name!r} after it"
    from beam_tfscript.cli.unknown_flags import suggest

    return f"check has no flag {name}.{suggest(name, own_flags)}"


class _ShowVersions(argparse.Action):
    """Prints the versions and exits. An action looks them up only if the flag is given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(versions())
        parser.exit()


def versions() -> str:
    """Return the versions of this package, Python, Beam and TensorFlow, one per line, without importing them."""
    lines = [f"beam-tfscript {__version__}", f"Python {platform.python_version()} ({sys.executable})"]
    lines.append(f"apache-beam {_version_of('apache-beam')}")
    tensorflow = {name: _version_of(name) for name in _TENSORFLOW_DISTRIBUTIONS}
    installed = [f"{name} {version}" for name, version in tensorflow.items() if version != _MISSING]
    lines += installed or [f"tensorflow {_MISSING}"]
    return "\n".join(lines)


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return _MISSING


def _make_parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser, and the parsers of the commands by name."""
    parser = argparse.ArgumentParser(
        prog="beam-tfscript", description="Run TensorFlow scripts over rows.", allow_abbrev=False
    )
    parser.add_argument(
        "--version",
        action=_ShowVersions,
        nargs=0,
        help="show the versions of this package, Python, Beam and TensorFlow",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_check(commands)
    _add_run(commands)
    return parser, commands.choices


def _add_check(commands: argparse._SubParsersAction) -> None:
    check = commands.add_parser(
        "check", allow_abbrev=False, help="run a script on a few rows, without a pipeline, and explain errors",
    )  # fmt: skip
    check.add_argument(
        "--data", required=True, metavar="FILE",
        help="a TFRecord, CSV, JSON lines or Parquet file, or a table (odps://project/tables/name)",
    )  # fmt: skip
    check.add_argument("--input-format", choices=formats.SUFFIXES, help="its format, if its name does not tell")
    check.add_argument("--rows", type=int, default=20, metavar="N", help="number of rows; 20 by default")
    check.add_argument("--train", action="store_true", help="run it as TrainTFScript does, and show the model")
    check.add_argument(
        "--feed-timeout", type=float, default=120, metavar="SECONDS",
        help="how long the script may go without reading its rows, in bundles and stream; 120 by default",
    )  # fmt: skip
    arguments.add_script_flags(check)


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser(
        "run", allow_abbrev=False, help="run a script over whole files, through Beam",
        epilog="Other flags must be Beam's pipeline options, such as --runner.",
    )  # fmt: skip
    run.add_argument(
        "--input", required=True, metavar="GLOB",
        help="TFRecord, CSV, JSON lines or Parquet files, or a table (odps://project/tables/name/pt=1)",
    )  # fmt: skip
    run.add_argument("--input-format", choices=formats.SUFFIXES, help="their format, if their names do not tell")
    run.add_argument("--output", metavar="PREFIX", help="prefix of the names of the files to write, or a table")
    run.add_argument(
        "--table-mode", choices=("append", "overwrite"), help="of an output that is a table; append by default"
    )
    run.add_argument("--format", choices=formats.SUFFIXES, help="the format to write; the input's format by default")
    run.add_argument("--train", action="store_true", help="train a model instead of writing rows")
    run.add_argument("--model-dir", metavar="DIR", help="directory where the model is published; with --train")
    run.add_argument("--max-attempts", type=int, metavar="N", help="number of attempts per run of the script")
    arguments.add_script_flags(run)

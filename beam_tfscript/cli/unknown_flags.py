"""Flags that neither a command nor Beam knows: an error with the nearest names, instead of a job without them."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import create_runner

from beam_tfscript.cli.arguments import names_of
from beam_tfscript.errors import ArgumentError

# Least similarity of two names, from 0 to 1: one letter of ten may be wrong, or two may be swapped.
_SIMILARITY = 0.8
_MOST_NAMES = 3
# A flag, not a value such as -1.
_FLAG = re.compile(r"--?[A-Za-z]")


def check_beam_flags(flags: Sequence[str], own: Iterable[str], *, command: str = "beam-tfscript run") -> None:
    """Refuse unknown flags.

    A job server has options of its own, which its runner requests when the job is submitted. With such a runner an
    unknown flag is passed on, with a note on stderr. It is still refused if its name is nearly that of a flag of this
    command.

    Args:
      flags: the command line without the flags of the command.
      own: the names of the command's flags.
      command: the command's name, for errors.

    Raises:
      ArgumentError: a flag is unknown, or the runner does not exist.
    """
    # A runner's options are known once the runner is imported.
    has_job_server = _has_job_server(flags)
    parser = _beam_parser()
    _, unknown = parser.parse_known_args(list(flags))
    own, beams = list(own), names_of(parser)
    names = [argument.partition("=")[0] for argument in unknown if _FLAG.match(argument)]
    if unknown and not names:
        raise ArgumentError(
            f"beam-tfscript run takes one argument, the script, but got {unknown[0]!r} too: remove it, or pass it "
            "to the script with --script-arg."
        )
    for name in names:
        if has_job_server and not nearest(name, own):
            hint = suggest(name, beams)
            print(f"Note: Beam does not know {name}; it is passed to the job server.{hint}", file=sys.stderr)
        else:
            raise ArgumentError(f"neither {command} nor Beam has a flag {name}.{suggest(name, own, beams)}")


def suggest(name: str, *known: Iterable[str]) -> str:
    """Return a question that suggests the nearest flags; empty if none is near.

    Args:
      name: an unknown flag.
      known: groups of known flags, the most likely group first.
    """
    found = dict.fromkeys(near for group in known for near in nearest(name, group))
    return f" Is it {' or '.join(found)}?" if found else ""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the flags with nearly that name, the nearest first."""
    by_spelling: dict[str, list[str]] = {}
    for flag in known:
        by_spelling.setdefault(_spell(flag), []).append(flag)
    found = difflib.get_close_matches(_spell(name), by_spelling, _MOST_NAMES, _SIMILARITY)
    return [flag for spelling in found for flag in by_spelling[spelling]]


def _spell(flag: str) -> str:
    return flag.lstrip("-").replace("_", "-").lower()


def _has_job_server(flags: Sequence[str]) -> bool:
    name = PipelineOptions(flags).view_as(StandardOptions).runner or StandardOptions.DEFAULT_RUNNER
    try:
        return isinstance(create_runner(name), PortableRunner)
    except ValueError as error:  # such as an unknown runner
        raise ArgumentError(f"Beam refuses its flags: {error}") from error


def _beam_parser() -> argparse.ArgumentParser:
    """Return the parser with the options of all imported classes."""
    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    return parsers[0]

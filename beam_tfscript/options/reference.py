"""Reference of the transforms' arguments, from their declaration: docs/arguments.md and the docstrings.

python -m beam_tfscript.options.reference > docs/arguments.md
python -m beam_tfscript.options.reference RunTFScript              # the `Args` of its docstring
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence

from beam_tfscript.options.arguments.argument import FEEDS, REQUIRED, Argument
from beam_tfscript.options.arguments.cluster import CLUSTER
from beam_tfscript.options.arguments.rows import ROWS
from beam_tfscript.options.arguments.runs import RUNS
from beam_tfscript.options.arguments.script import SCRIPT
from beam_tfscript.options.arguments.signatures import RUN_TF_SCRIPT, TRAIN_TF_SCRIPT
from beam_tfscript.options.arguments.training import TRAINING

TRANSFORMS = {"RunTFScript": RUN_TF_SCRIPT, "TrainTFScript": TRAIN_TF_SCRIPT}
GROUPS = {
    "The script": SCRIPT,
    "The rows": ROWS,
    "Runs and their feed": RUNS,
    "The cluster": CLUSTER,
    "Trainings": TRAINING,
}
_WIDTH = 120
_INDENT = 4  # of a class's docstring
_MIB = 1 << 20

_HEAD = """\
# Arguments

The keyword arguments of `RunTFScript` and `TrainTFScript`. All are checked while the pipeline is built.
`python -m beam_tfscript.options.reference > docs/arguments.md` writes this page from the declaration in
`beam_tfscript/options/arguments/`: do not edit it by hand.
"""
_COLUMNS = ("argument", "type", "default", "transforms and feeds", "meaning")


def page() -> str:
    """Return docs/arguments.md."""
    parts = [_HEAD]
    for title, arguments in GROUPS.items():
        lines = [f"## {title}", "", _line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
        lines += [_line(_cells(argument)) for argument in arguments]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def docstring_args(transform: str) -> str:
    """Return the `Args` section of a transform's docstring, indented as in its class."""
    return "\n".join(_docstring_lines(TRANSFORMS[transform]))


def _docstring_lines(arguments: Sequence[Argument]) -> Iterator[str]:
    margin = " " * _INDENT
    yield f"{margin}Args:"
    for argument in arguments:
        yield textwrap.fill(
            f"{argument.name}: {argument.meaning}",
            _WIDTH,
            initial_indent=margin + "  ",
            subsequent_indent=margin + "    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _cells(argument: Argument) -> list[str]:
    meaning = re.sub(r"docs/(\w+\.md)", r"[\1](\1)", argument.meaning)
    return [f"`{argument.name}`", f"`{argument.type_text}`", _default(argument), _scope(argument), meaning]


def _default(argument: Argument) -> str:
    if argument.default is REQUIRED:
        return "required"
    if argument.feed_defaults:
        return ", ".join(f"{value} in `{feed}`" for feed, value in argument.feed_defaults.items())
    if isinstance(argument.default, int) and argument.default >= _MIB:
        return f"`{argument.default}` ({argument.default // _MIB} MiB)"
    text = f'"{argument.default}"' if isinstance(argument.default, str) else repr(argument.default)
    return f"`{text}`"


def _scope(argument: Argument) -> str:
    names = [name for name, arguments in TRANSFORMS.items() if argument in arguments]
    transforms = "both" if len(names) == len(TRANSFORMS) else f"`{names[0]}`"
    return (
        transforms if argument.feeds == FEEDS else f"{transforms}; {', '.join(f'`{feed}`' for feed in argument.feeds)}"
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(arguments: Sequence[str]) -> None:
    """Print the page, or the `Args` section of the transform that is named."""
    sys.stdout.write(docstring_args(arguments[0]) + "\n" if arguments else page())


if __name__ == "__main__":
    main(sys.argv[1:])

"""Parameters of the Dataflow template, from the declaration of the transform's arguments; their texts, parsed.

In comes a command line of `--name=value` texts, as the template's launcher makes it. Out go the files, the arguments of
`RunTFScript`, Beam's resource hints, and the flags that are Beam's.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions

from beam_tfscript.cli import formats
from beam_tfscript.cli.arguments import help_text
from beam_tfscript.cli.parameter_forms import ACCELERATOR, IMAGE, MIN_RAM, URI, Form, choice, form_of
from beam_tfscript.cli.unknown_flags import check_beam_flags
from beam_tfscript.errors import SchemaError
from beam_tfscript.options.arguments.argument import REQUIRED, Argument
from beam_tfscript.options.arguments.runs import MAX_ATTEMPTS
from beam_tfscript.options.arguments.signatures import RUN_TF_SCRIPT

# Arguments whose names Beam has too, with another meaning: Dataflow's `num_workers` counts machines. A template's
# launcher passes those in the same command line.
_NAMES = {"main_script_file": "script", "num_workers": "shards"}
_RUNNERS = ("dataflow", "dataflowrunner")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of the template.

    Attributes:
      name: its name, in the command line too.
      help: one line about it.
      group: heading in the console.
      form: form of its text.
      is_required: True if the template needs it.
      default: the text that the console shows at first.
      argument: the argument of the transform that it gives; None for a parameter of the job.
      is_beams: True for an option of Beam, which is passed on.
    """

    name: str
    help: str
    group: str
    form: Form
    is_required: bool = False
    default: str = ""
    argument: Argument | None = None
    is_beams: bool = False

    def read(self, text: str, *, is_service: bool) -> Any:
        """Return the value of a text.

        Raises:
          ArgumentError: the text breaks a rule; the message names the parameter and the rule.
        """
        value = self.form.read(self.name, text, is_service=is_service)
        if self.argument is None:
            return value
        try:
            return dataclasses.replace(self.argument, name=self.name).check_value(value)
        except SchemaError as error:
            raise SchemaError(f"{self.name}: {error}") from error


def rename(text: str) -> str:
    """Return an error of the transform with the names of the template's parameters."""
    for argument, name in _NAMES.items():
        text = re.sub(rf"\b{argument}\b", name, text)
    return text


class Request(NamedTuple):
    """A command line of the template, parsed.

    Attributes:
      files: the values of `input`, `input_format`, `output` and `output_format`, by name; only those that are given.
      arguments: arguments of `RunTFScript`.
      resource_hints: Beam's hints for the machines that run the script.
      beam_flags: Beam's part of the command line.
    """

    files: dict[str, Any]
    arguments: dict[str, Any]
    resource_hints: dict[str, Any]
    beam_flags: list[str]


def _of_arguments() -> Iterator[Parameter]:
    """Yield the parameters that give arguments of the transform: those that the command line has as flags."""
    for argument in RUN_TF_SCRIPT:
        flag = argument.flag
        if flag is None and argument is not MAX_ATTEMPTS:
            continue
        form = form_of(argument)
        has_default = isinstance(argument.default, (str, int, float)) and not isinstance(argument.default, bool)
        yield Parameter(
            _NAMES.get(argument.name, argument.name),
            help_text(argument, "" if flag is None else flag.note, form.note),
            "script" if flag is None else flag.group or "script",
            form,
            is_required=argument.default is REQUIRED or argument.name == "output_schema",
            default=str(argument.default) if has_default else "",
            argument=argument,
        )


_FORMAT = choice(tuple(formats.SUFFIXES))
PARAMETERS = (
    Parameter("input", "files of rows: a URI or a pattern, such as gs://BUCKET/rows-*.csv", "files", URI, True),
    Parameter("input_format", "their format, if their names do not tell", "files", _FORMAT),
    Parameter("output", "prefix of the names of the files to write", "files", URI, True),
    Parameter("output_format", "the format to write; the input's format by default", "files", _FORMAT),
    *_of_arguments(),
    Parameter("min_ram", "memory of the machines that run the script, such as 16GB", "machines", MIN_RAM),
    Parameter(
        "accelerator",
        "accelerators of the machines that run the script, such as type:nvidia-l4;count:1;install-nvidia-driver",
        "machines",
        ACCELERATOR,
    ),
    Parameter(
        "sdk_container_image",
        "image of the workers: that of this template",
        "machines",
        IMAGE,
        is_required=True,
        is_beams=True,
    ),
)
_HINTS = ("min_ram", "accelerator")


def parse(argv: Sequence[str] | None, *, program: str) -> Request:
    """Parse a command line; without a parameter that the template needs, end the program with a message.

    Args:
      argv: the command line; None for that of the program.
      program: the program's name, for messages.

    Raises:
      ArgumentError: a text breaks its parameter's rule, or a flag is unknown.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Run a TensorFlow script over files of rows.",
        epilog="Other flags are Beam's pipeline options, such as --runner.",
        allow_abbrev=False,  # otherwise Beam's --in… and --out… options would count as these
    )
    for parameter in PARAMETERS:
        # The service may send a parameter that a form leaves empty.
        metavar = "{" + ",".join(parameter.form.choices) + "}" if parameter.form.choices else "TEXT"
        parser.add_argument(f"--{parameter.name}", default="", metavar=metavar, help=parameter.help.replace("%", "%%"))
    flags, beam_flags = parser.parse_known_args(argv)
    given = {parameter.name: text for parameter in PARAMETERS if (text := getattr(flags, parameter.name))}
    options = PipelineOptions(beam_flags)
    is_service = (options.view_as(StandardOptions).runner or "").lower() in _RUNNERS
    missing = [
        f"--{parameter.name}"
        for parameter in PARAMETERS
        if parameter.is_required and parameter.name not in given and (is_service or not parameter.is_beams)
    ]
    if missing:
        parser.error(f"missing: {', '.join(missing)}")
    if options.view_as(GoogleCloudOptions).template_location is None:
        # A launcher may add flags that this version of Beam does not know; Beam ignores them.
        check_beam_flags(beam_flags, [f"--{parameter.name}" for parameter in PARAMETERS], command=program)
    return _read(given, beam_flags, is_service=is_service)


def _read(given: Mapping[str, str], beam_flags: list[str], *, is_service: bool) -> Request:
    """Return the request of the texts that are given, by parameter."""
    request = Request({}, {}, {}, list(beam_flags))
    for parameter in PARAMETERS:
        if parameter.name not in given:
            continue
        value = parameter.read(given[parameter.name], is_service=is_service)
        if parameter.argument is not None:
            request.arguments[parameter.argument.name] = value
        elif parameter.is_beams:
            request.beam_flags.append(f"--{parameter.name}={value}")
        elif parameter.name in _HINTS:
            request.resource_hints[parameter.name] = value
        else:
            request.files[parameter.name] = value
    return request

"""Forms of a template parameter's text: a regular expression for the service, and a parser for the pipeline.

A parameter of a Dataflow template is one text. So a list and a mapping are JSON, and True is `true`. The expressions
are POSIX extended ones, as the service needs them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.transforms.resources import parse_resource_hints

from beam_tfscript.errors import ArgumentError
from beam_tfscript.options.arguments.argument import Argument


@dataclasses.dataclass(frozen=True)
class Form:
    """Form of a text.

    Attributes:
      rule: words that follow "must be".
      regex: expression that the text matches from its begin to its end; empty for any text.
      parse: function from the text to the value; raises ValueError.
      param_type: the service's type of the parameter.
      choices: the allowed texts, if they are few.
      note: addition to the help.
      is_secret: True if errors must not show the text.
      is_for_service: True if the expression counts only for a job on Dataflow.
    """

    rule: str
    regex: str = ""
    parse: Callable[[str], Any] = str
    param_type: str = "TEXT"
    choices: tuple[str, ...] = ()
    note: str = ""
    is_secret: bool = False
    is_for_service: bool = False

    def read(self, name: str, text: str, *, is_service: bool) -> Any:
        """Return the value of a text.

        Args:
          name: the parameter's name, for errors.
          text: its text.
          is_service: True for a job on Dataflow.

        Raises:
          ArgumentError: the text breaks the rule.
        """
        got = "" if self.is_secret else f", got {text!r}"
        if self.regex and (is_service or not self.is_for_service) and not re.fullmatch(self.regex, text):
            raise ArgumentError(f"{name} must be {self.rule}{got}.")
        try:
            return self.parse(text)
        except ValueError as error:
            raise ArgumentError(f"{name} must be {self.rule}{got}: {error}.") from None


def choice(texts: Sequence[str]) -> Form:
    """Return the form of one of a few texts."""
    regex = f"^({'|'.join(texts)})$"
    return Form(f"one of {', '.join(texts)}", regex, param_type="ENUM", choices=tuple(texts))


def _texts(text: str) -> list[str]:
    """Return the texts of a JSON list; any other text is the only one."""
    if not text.lstrip().startswith("["):
        return [text]
    values = _json(text)
    if not all(isinstance(value, str) for value in values):
        raise ValueError("the list has a value of another type")
    return values


def _variables(text: str) -> dict[str, str]:
    values = _json(text)
    if not isinstance(values, dict):
        raise ValueError("the text is other JSON")
    return values


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None


def _json_text(text: str) -> str:
    """Return the text, as the transform parses it too."""
    _json(text)
    return text


def _min_ram(text: str) -> str:
    parse_resource_hints({"min_ram": text})
    return text


FREE = Form("a text")
NUMBER = Form("a whole number", "^[0-9]+$", int, "NUMBER")
SHARE = Form("a whole number, or a fraction of 1", "^[0-9]*[.]?[0-9]+$", float, "NUMBER")
SECONDS = Form("a number of seconds", "^[0-9]+([.][0-9]+)?$", float, "NUMBER")
BOOLEAN = Form("true or false", "^(true|false)$", lambda text: text == "true", "BOOLEAN")
JSON = Form("JSON", parse=_json_text, is_secret=True)
TEXTS = Form("a text, or a JSON list of texts", parse=_texts, note="several as a JSON list of texts", is_secret=True)
VARIABLES = Form(
    "a JSON object of texts",
    "^[{].*[}]$",
    _variables,
    note='a JSON object such as {"NAME": "value"}, and no place for secrets',
    is_secret=True,
)
LEVEL = Form(
    "the name or the number of a level of Python's logging",
    "^([A-Za-z]+|[0-9]+)$",
    lambda text: int(text) if text.isdecimal() else text,
)
NAME = Form("the name of a function", "^[A-Za-z_][A-Za-z0-9_]*$")
NAMES = Form("names with commas between them", parse=lambda text: [name.strip() for name in text.split(",")])
VERSION = Form("a version such as 3.8", "^3[.][0-9]{1,2}([.][0-9]{1,2})?$")
# Off the service, a path of this machine will do. A worker's disk is removed with the worker.
URI = Form("a URI on Dataflow, such as gs://BUCKET/rows", "^[a-z][a-z0-9+.-]*://.+$", is_for_service=True)
IMAGE = Form("the name of an image, such as REGISTRY/NAME:TAG", "^[^ ]+/[^ ]+$")
MIN_RAM = Form("an amount of memory such as 16GB", "^[0-9]+([.][0-9]+)? ?[KMGTP]i?B$", _min_ram)
ACCELERATOR = Form(
    "a text such as type:nvidia-l4;count:1;install-nvidia-driver", "^type:[^; ]+;count:[0-9]+(;[^; ]+)*$"
)

# Forms by the name that a flag's value has in the command line's help.
_BY_METAVAR = {
    "N": NUMBER, "SECONDS": SECONDS, "": BOOLEAN, "JSON": JSON, "K=V": VARIABLES, "LEVEL": LEVEL, "NAME": NAME,
    "A,B": NAMES, "3.8": VERSION, "TEXT": FREE, "DIR": FREE, "URI": FREE, "SCRIPT": FREE,
}  # fmt: skip


def form_of(argument: Argument) -> Form:
    """Return the form of the text that gives an argument of the transform."""
    if argument.choices:
        return choice(argument.choices)
    flag = argument.flag
    if flag is None:
        return NUMBER
    if flag.is_list and flag.metavar != "K=V":
        return TEXTS
    if flag.metavar == "N" and flag.parse is float:
        return SHARE
    return _BY_METAVAR[flag.metavar]

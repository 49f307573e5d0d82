"""Argument and Flag: the declaration of one keyword argument, as a plain value."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from beam_tfscript.errors import ArgumentError

FEEDS = ("dataset", "bundles", "stream")
# The default of an argument that has none, as in `inspect.signature`.
REQUIRED: Any = inspect.Parameter.empty

# Takes an argument's name and its value; returns the checked value, or raises ArgumentError.
Check: TypeAlias = Callable[[str, Any], Any]
# Takes the options; returns a display item's value, or None for an argument that is not shown.
Show: TypeAlias = Callable[[Any], "str | int | float | None"]

_MODULE = re.compile(r"\b(?:\w+\.)+(?=\w)")


@dataclasses.dataclass(frozen=True)
class Flag:
    """A command-line flag that gives a value to an argument.

    Attributes:
      group: heading in the command's help.
      metavar: name of the value in the help; empty for a flag without a value, which means True.
      name: the flag; empty for the argument's name with dashes.
      is_list: True if the flag may be repeated.
      parse: function from the text to the argument's value, or from the list of texts where `is_list` is True.
      note: addition to the help, for what the flag alone can do.
    """

    group: str
    metavar: str = ""
    name: str = ""
    is_list: bool = False
    parse: Callable[[Any], Any] = str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Argument:
    """A keyword argument of a transform.

    Attributes:
      name: the keyword.
      annotation: its type, as in the signature.
      meaning: its entry in the docstring. The first sentence is the help of its flag.
      default: its default; `REQUIRED` for none.
      feed_defaults: feed -> the value that None stands for.
      feeds: the feeds in which it has a meaning.
      wrong_feed: explanation, for the error that refuses the argument in other feeds; empty for no error.
      choices: the texts that are allowed, beside None where None is the default.
      check: check of the value; not called for None where None is the default, nor where there are `choices`.
      field: the field of the options that holds the checked value; empty if several arguments make that field.
      show: display item on a job's page; None for an argument that is not shown.
      flag: its command-line flag, or None.
    """

    name: str
    annotation: Any
    meaning: str
    default: Any = REQUIRED
    feed_defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    feeds: tuple[str, ...] = FEEDS
    wrong_feed: str = ""
    choices: tuple[str, ...] = ()
    check: Check | None = None
    field: str = ""
    show: Show | None = None
    flag: Flag | None = None

    def check_value(self, value: Any) -> Any:
        """Return the value in the form that the options hold.

        Raises:
          ArgumentError: the value cannot be used; the message has the argument's name and the rule.
        """
        if value is None and self.default is None:
            return None
        if self.choices:
            if value not in self.choices:
                raise ArgumentError(f"{self.name} must be {self._describe_choices()}, got {value!r}.")
            return value
        return value if self.check is None else self.check(self.name, value)

    def check_feed(self, value: Any, feed: str) -> None:
        """Refuse a value that would have no effect in the feed.

        Raises:
          ArgumentError: the argument has no meaning in the feed.
        """
        if self.wrong_feed and feed not in self.feeds and value != self.default:
            raise ArgumentError(f'{self.name} has no meaning in feed="{feed}": leave it out. {self.wrong_feed}')

    def _describe_choices(self) -> str:
        single = len(self.choices) == 1
        texts = f'"{self.choices[0]}"' if single else f"one of {', '.join(map(repr, self.choices))}"
        return f"{texts} or None" if self.default is None else texts

    @property
    def type_text(self) -> str:
        """The annotation as text, without the names of modules."""
        return _MODULE.sub("", inspect.formatannotation(self.annotation))

    @property
    def summary(self) -> str:
        """The first sentence of the meaning, as plain text without its full stop."""
        return re.split(r"[.;](?:\s|$)", self.meaning, maxsplit=1)[0].replace("`", "")


def attribute(name: str) -> Show:
    """Return a display function that shows an attribute of the options as it is."""
    return lambda options: getattr(options, name)


def text_of(name: str) -> Show:
    """Return a display function that shows an attribute of the options as text."""

    def show(options: Any) -> str | None:
        value = getattr(options, name)
        return None if value is None else str(value)

    return show

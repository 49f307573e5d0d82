"""Checks of single values: (argument's name, value) -> the value as the options hold it.

Errors never show a value that may be a secret, such as a URI with a password or a script's token.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import ArgumentError
from beam_tfscript.options.arguments.argument import Check
from beam_tfscript.options.secret_arguments import type_name


def text(argument: str, value: str) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        got = "''" if value == "" else type_name(value)
        raise ArgumentError(f"{argument} must be a string that is not empty, got {got}.")
    return value


def texts(argument: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return a list of texts as a tuple."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentError(f"{argument} must be a list of strings, got {type_name(values)}.")
    values = tuple(values)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ArgumentError(f"{argument} must be a list of strings, got {type_name(value)} at index {index}.")
    return values


def columns(argument: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of columns, at least one and each once, as a tuple."""
    checked = texts(argument, names)
    if not checked or len(set(checked)) != len(checked):
        raise ArgumentError(f"{argument} must name one or more columns, each once, got {list(checked)!r}.")
    return checked


def schema(argument: str, value: str | Schema) -> Schema:
    """Return a schema, parsed if it is a text."""
    return Schema.parse(value) if isinstance(value, str) else value


def function_name(argument: str, value: str) -> str:
    """Return the name of a function."""
    if not text(argument, value).isidentifier():
        raise ArgumentError(f"{argument} must be the name of a function, got {value!r}.")
    return value


def script_file(argument: str, value: str) -> str:
    """Return the path or URI of a script; refuse a function, which notebooks are tempted to give."""
    if callable(value):
        raise ArgumentError(
            f"{argument} must be a file that defines the function, and not the function "
            f"{getattr(value, '__name__', '')!r} itself: the script runs in another process, perhaps in another "
            'Python. Give the name of the file, such as "score.py". In a notebook, a cell that begins with '
            "%%writefile score.py writes that file."
        )
    return text(argument, value)


def path_or_uri(argument: str, value: str) -> str:
    """Return a path or a URI."""
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{argument} must be a path, a URI or None, got {value!r}.")
    return value


def level(argument: str, value: str | int) -> int:
    """Return the number of a level of Python's logging; a name may be in lower case."""
    number = logging.getLevelName(value.upper()) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ArgumentError(
            f"{argument} must be a level of Python's logging, such as 'INFO', 'WARNING' or 30, got {value!r}."
        )
    return number


def boolean(argument: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{argument} must be True or False, got {value!r}.")
    return value


def true_or_false(argument: str, value: Any) -> Any:
    """Return a value that equals True or False, where None is allowed as well."""
    if value not in (True, False):
        raise ArgumentError(f"{argument} must be True, False or None, got {value!r}.")
    return value


def whole_number(least: int) -> Check:
    """Return a check for whole numbers of at least `least`."""

    def check(argument: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ArgumentError(f"{argument} must be a whole number of at least {least}, got {value!r}.")
        return value

    return check


def network(argument: str, value: str) -> str:
    """Return a network, such as `10.0.0.0/8`."""
    try:
        return str(ipaddress.ip_network(text(argument, value)))
    except ValueError as error:
        raise ArgumentError(f'{argument} must be a network such as "10.0.0.0/8", got {value!r}: {error}.') from error


def port_range(argument: str, value: str) -> tuple[int, int]:
    """Return the (first, last) port of a range such as `30000-30999`."""
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text(argument, value))
    first, last = map(int, found.groups()) if found else (0, 0)
    if not 0 < first <= last < 1 << 16:
        raise ArgumentError(f'{argument} must be a range of ports such as "30000-30999", got {value!r}.')
    return first, last


def share(least: float) -> Check:
    """Return a check for a whole number of things, or for a fraction of one that is at least `least`."""

    def check(argument: str, value: Any) -> float:
        is_whole = _is_number(value) and value >= 0 and value == value // 1 and value < float("inf")
        if not is_whole and not (_is_number(value) and least <= value < 1):
            raise ArgumentError(
                f"{argument} must be a whole number, or a fraction between {least:g} and 1, got {value!r}."
            )
        return int(value) if is_whole else float(value)

    return check


def optional(check: Check) -> Check:
    """Return a check that accepts None as well, for arguments whose default is not None."""
    return lambda argument, value: None if value is None else check(argument, value)


def seconds(argument: str, value: Any) -> float:
    """Return a number of seconds greater than 0 and finite."""
    if not _is_number(value) or not 0 < value < float("inf"):
        raise ArgumentError(f"{argument} must be a number of seconds greater than 0, got {value!r}.")
    return float(value)


def seconds_or_zero(argument: str, value: Any) -> float:
    """Return a number of seconds of at least 0 and finite."""
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise ArgumentError(f"{argument} must be a number of seconds of at least 0, got {value!r}.")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

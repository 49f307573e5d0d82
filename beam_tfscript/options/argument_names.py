"""Misspelt keyword arguments of the transforms: an error that names the nearest arguments."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from beam_tfscript.errors import UnknownArgumentError

_MOST_NAMES = 3

_P = ParamSpec("_P")
_T = TypeVar("_T")


def check_names(init: Callable[Concatenate[_T, _P], None]) -> Callable[Concatenate[_T, _P], None]:
    """Decorate an `__init__` to raise an error that suggests names for an unknown keyword argument.

    Python checks the rest of the call. Type checkers and `inspect.signature` see the signature of `init`.

    Args:
      init: the method; it takes no `**kwargs`.
    """
    _, *names = inspect.signature(init).parameters

    @functools.wraps(init)
    def checked(self: _T, *args: _P.args, **kwargs: _P.kwargs) -> None:
        unknown = [name for name in kwargs if name not in names]
        if unknown:
            raise UnknownArgumentError(_explain(type(self).__name__, unknown, names))
        init(self, *args, **kwargs)

    return checked


def _explain(transform: str, unknown: list[str], names: list[str]) -> str:
    sentences = []
    for name in unknown:
        near = difflib.get_close_matches(name.lower(), names, _MOST_NAMES)
        hint = f"Is it {' or '.join(near)}?" if near else f"Its arguments are {', '.join(names)}."
        sentences.append(f"{transform} has no argument {name!r}. {hint}")
    return " ".join(sentences)

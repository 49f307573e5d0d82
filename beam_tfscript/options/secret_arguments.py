"""The arguments in which scripts are given passwords and tokens, checked: `user_params` and `env`.

In come values of any type. Out go those that can be given to a script, or an error that says where it is wrong and of
what type, and never shows a value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from beam_tfscript.errors import ArgumentError

__all__ = ["check_env", "check_user_params", "type_name"]


def check_user_params(value: Any, compat_params: str | None) -> Any:
    """`user_params` with JSON's types, or each of them a string where `compat_params` asks for that.

    Raises:
      ArgumentError: they are not JSON.
    """
    params = _json_value(value)
    if compat_params is None:
        return params
    if compat_params != "strings":
        raise ArgumentError(f'compat_params must be "strings" or None, got {compat_params!r}.')
    if not isinstance(params, dict):
        raise ArgumentError(f'compat_params="strings" is for user_params with names, got {type_name(params)}.')
    # Null stays null: there is no text that scripts would take for it.
    kept = (str, type(None))
    return {
        name: value if isinstance(value, kept) else json.dumps(value, ensure_ascii=False)
        for name, value in params.items()
    }


def check_env(env: Mapping[str, str] | None) -> Mapping[str, str]:
    """`env` as the system takes it.

    Raises:
      ArgumentError: a name or a value is none that a process can be given.
    """
    rule = "env must map names of variables to strings"
    try:
        checked = dict(env or {})
    except (TypeError, ValueError):
        raise ArgumentError(f"{rule}, got {type_name(env)}.") from None
    for name, value in checked.items():
        if not isinstance(name, str):
            raise ArgumentError(f"{rule}, got a name of type {type_name(name)}.")
        if not name or "=" in name or not _is_system_text(name):
            # What is behind the sign is a value that was taken for a part of the name.
            shown = name.partition("=")[0] + ("=…" if "=" in name else "")
            raise ArgumentError(f"{rule}, and a name must not be empty or hold '=' or a null character, got {shown!r}.")
        if not isinstance(value, str):
            raise ArgumentError(f"{rule}, got a value of type {type_name(value)} for {name!r}.")
        if not _is_system_text(value):
            raise ArgumentError(
                f"{rule}, and the value for {name!r} holds a null character, or one that has no UTF-8 form."
            )
    return checked


def type_name(value: object) -> str:
    """The type as errors name it, in place of a value that may be a secret."""
    return "None" if value is None else type(value).__name__


def _json_value(value: Any) -> Any:
    """`user_params` as JSON keeps it, from a value or from JSON text."""
    try:
        if isinstance(value, str):
            return json.loads(value)
        text = json.dumps({} if value is None else value, default=_from_numpy)
    except (TypeError, ValueError, RecursionError) as error:
        # The values may be secrets, and so may the text: the error says where it is wrong, and no more.
        found = None if isinstance(error, RecursionError) or "Circular" in str(error) else _find_non_json(value)
        raise ArgumentError(f"user_params must be JSON: {found or error}.") from None
    _check_keys(value)
    return json.loads(text)


def _from_numpy(value: Any) -> Any:
    """The plain value of a scalar or an array of numpy, where numpy is loaded.

    Raises:
      TypeError: it is of another type, or of one that JSON has not.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        plain = value.tolist()
        if not isinstance(plain, numpy.generic):
            return plain
    raise TypeError(f"Object of type {type_name(value)} is not JSON serializable")


def _check_keys(value: Any) -> None:
    # json.dumps turns other keys into text without a word, and the script would look for them in vain.
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ArgumentError(f"user_params: keys must be strings, got {key!r}.")
            _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_keys(inner)


def _find_non_json(value: Any, place: str = "user_params") -> str | None:
    """Where a value of a type is that JSON has not; None where there is none."""
    if isinstance(value, dict):
        inner = [(f"{place}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        inner = [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    else:
        if value is None or isinstance(value, (str, int, float)):
            return None
        try:
            return _find_non_json(_from_numpy(value), place)
        except TypeError:
            return f"{place} is of type {type_name(value)}"
    return next(filter(None, (_find_non_json(item, at) for at, item in inner)), None)


def _is_system_text(text: str) -> bool:
    """Whether the system can hand the text to a process."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False

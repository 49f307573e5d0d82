"""The arguments in which scripts get passwords and tokens, `user_params` and `env`, checked.

Comes in: values of any type. Goes out: values that a script can be given. An error says where the value is wrong and of
which type, and never shows a value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from beam_tfscript.errors import ArgumentError

__all__ = ["check_env", "check_user_params", "type_name"]


def check_user_params(value: Any, compat_params: str | None) -> Any:
    """Return `user_params` with JSON's types, or each of them as a string if `compat_params` is "strings".

    Raises:
      ArgumentError: the parameters are not JSON.
    """
    params = _json_value(value)
    if compat_params is None:
        return params
    if not isinstance(params, dict):
        raise ArgumentError(f'compat_params="strings" needs user_params that are a dict, got {type_name(params)}.')
    # Null stays null: no text would be read as null by a script.
    kept = (str, type(None))
    return {
        name: value if isinstance(value, kept) else json.dumps(value, ensure_ascii=False)
        for name, value in params.items()
    }


def check_env(env: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return `env` as the operating system takes it.

    Raises:
      ArgumentError: a process cannot be given one of the names or values.
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
            # The text behind the sign may be a secret value that was taken for a part of the name.
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
    """Return the type's name, which errors show instead of a value that may be a secret."""
    return "None" if value is None else type(value).__name__


def _json_value(value: Any) -> Any:
    """Return `user_params` as JSON keeps it, from a value or from JSON text."""
    try:
        if isinstance(value, str):
            return json.loads(value)
        text = json.dumps({} if value is None else value, default=_from_numpy)
    except (TypeError, ValueError, RecursionError) as error:
        # The values may be secrets, and so may the text: the error says only where it is wrong.
        found = None if isinstance(error, RecursionError) or "Circular" in str(error) else _find_non_json(value)
        raise ArgumentError(f"user_params must be JSON: {found or error}.") from None
    _check_keys(value)
    return json.loads(text)


def _from_numpy(value: Any) -> Any:
    """Return the plain value of a numpy scalar or array, if numpy is loaded.

    Raises:
      TypeError: the value is of another type, or of one that JSON does not have.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        plain = value.tolist()
        if not isinstance(plain, numpy.generic):
            return plain
    raise TypeError(f"Object of type {type_name(value)} is not JSON serializable")


def _check_keys(value: Any) -> None:
    # json.dumps silently turns other keys into text, and the script would not find them.
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ArgumentError(f"user_params: keys must be strings, got {key!r}.")
            _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_keys(inner)


def _find_non_json(value: Any, path: str = "user_params") -> str | None:
    """Return the path and type of a value that JSON does not have; None if there is none."""
    if isinstance(value, dict):
        inner = [(f"{path}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        inner = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    else:
        if value is None or isinstance(value, (str, int, float)):
            return None
        try:
            return _find_non_json(_from_numpy(value), path)
        except TypeError:
            return f"{path} is of type {type_name(value)}"
    return next(filter(None, (_find_non_json(item, inner_path) for inner_path, item in inner)), None)


def _is_system_text(text: str) -> bool:
    """Return True if the operating system can hand the text to a process."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False

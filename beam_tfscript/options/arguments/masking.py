"""Values without secrets, for display items.

Display data is kept in logs and shown to everyone who may look at the job. So everything that could be a password is
masked: by the name of a key or an option, or by its position in a URI. The values of `env` are never shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from beam_tfscript.files.staging import ScriptFile
from beam_tfscript.files.uris import MASK, mask_name, mask_uris

__all__ = ["join", "mask_command_line", "mask_json", "name_file"]

_OPTION = re.compile(r"-{0,2}[\w.-]+")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = {"apikey", "auth", "credential", "credentials", "passphrase", "passwd", "password", "pwd", "secret"}
_SECRET_WORDS |= {"accesskey", "authorization", "bearer", "secrets", "sig", "signature", "token"}
_SECRET_PAIRS = {("access", "key"), ("account", "key"), ("api", "key"), ("private", "key"), ("shared", "key")}


def name_file(file: ScriptFile) -> str:
    """Return the masked URI of a remote file, or the name of a local one, whose directory is the submitter's."""
    return mask_name(file.uri) if "://" in file.uri else file.name


def join(values: Iterable[str], separator: str = ", ") -> str | None:
    """Return the values as one text; None if there is none."""
    return separator.join(values) or None


def mask_json(value: Any) -> str | None:
    """Return a JSON value as masked text; None for an empty value."""
    return json.dumps(_mask_value(value), ensure_ascii=False) if value else None


def mask_command_line(arguments: Iterable[str]) -> list[str]:
    """Return arguments with the values of secret options masked, as in `--token=value` and `--token value`."""
    shown: list[str] = []
    is_value = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if is_value and not argument.startswith("--"):
            shown.append(MASK)
            is_value = False
            continue
        is_value = False
        if not _is_secret(name):
            shown.append(mask_uris(argument))
        elif not _OPTION.fullmatch(name):  # such as a header, or JSON
            shown.append(MASK)
        elif equals:
            shown.append(f"{name}={MASK}")
        else:
            shown.append(name)
            is_value = name.startswith("-")
    return shown


def _mask_value(value: Any, key: str = "") -> Any:
    """Return a JSON value with the strings masked that are below a key with a secret name."""
    if isinstance(value, dict):
        return {name: _mask_value(inner, name if not _is_secret(key) else key) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask_value(inner, key) for inner in value]
    if value is not None and _is_secret(key):
        return MASK
    return mask_uris(value) if isinstance(value, str) else value


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or any(pair in _SECRET_PAIRS for pair in zip(words, words[1:]))

"""Names of files: what a path or URI says, and what of it may be shown.

In come plain paths and URIs as a pipeline's author writes them. Out go their parts, and the same without secrets. No
file is opened here; `fetch.py` does that.
"""

from __future__ import annotations

import os
import re
import unicodedata
from urllib.parse import unquote, urlsplit, urlunsplit

from beam_tfscript.errors import ArgumentError

# What stands for a secret in errors, logs and display data.
MASK = "***"

# Presigned URLs have a dozen spellings of what is secret, so the few parameters that never are go through.
_HARMLESS_PARAMETERS = {"addressing", "endpoint", "generation", "host", "http_port", "region", "user", "version"}
_SCHEME = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*://")
# The scheme is bounded: without that, the time for a long text without any URI would grow by the square of its length.
_URI = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]{0,31}://[^\s\"'<>]+")
_QUERY = re.compile(r"\?[^\s\"'<>)]+")
_SHA256 = re.compile(r"#sha256=([^#]*)$")
_NO_NAMES = ("", ".", "..")
# Shorter values are words of their own, which would be masked all over a message.
_SCRUBBED_CHARS = 4


def scheme_of(uri: str) -> str:
    """The scheme in lower case; "" for a plain path."""
    match = _SCHEME.match(uri)
    return match.group()[: -len("://")].lower() if match else ""


def local_path(uri: str) -> str | None:
    """The path of a plain or `file://` name; None for anything that is not on this machine."""
    if scheme_of(uri) == "file":
        path = uri[len("file://") :]
        return path[len("localhost") :] if path.startswith("localhost/") else path
    return None if _SCHEME.match(uri) else uri


def base_name(uri: str) -> str:
    """The last part of the name, unchecked; `file_name` is for what is written."""
    if not _SCHEME.match(uri):
        return os.path.basename(uri.rstrip("/"))
    path = urlsplit(uri).path.rstrip("/") if scheme_of(uri) != "file" else local_path(uri) or ""
    name = os.path.basename(path.rstrip("/"))
    return unquote(name) if scheme_of(uri) in ("http", "https") else name


def file_name(argument: str, uri: str) -> str:
    """The file's name in the run's directory, which is inside that directory whatever the path or URI says.

    Every name of a file that is staged or unpacked comes from here. What a server answers, such as a redirect, names
    no file.

    Args:
      argument: the transform's argument that the URI was given as, for the error.
      uri: without its hash.

    Raises:
      ArgumentError: the last part of the URI cannot be a file's name.
    """
    try:
        name = base_name(uri)
    except ValueError as error:
        raise ArgumentError(f"{argument}: {mask_name(uri)!r} is no URI: {error}.") from None
    if name in _NO_NAMES or any(char in "/\\" or unicodedata.category(char) == "Cc" for char in name):
        raise ArgumentError(
            f"{argument}: {mask_name(uri)!r} would be {name!r} in the run's directory, which is no name of a file "
            "there: it must not be empty, '.' or '..', and must hold no slash, backslash or control character. Rename "
            "the file, or name a directory by its own name."
        )
    return name


def split_sha256(argument: str, uri: str) -> tuple[str, str | None]:
    """The URI without its `#sha256=…`, and that hash in lower case, or None.

    Args:
      argument: the transform's argument that it was given as, for the error.

    Raises:
      ArgumentError: what follows `#sha256=` is no hash.
    """
    match = _SHA256.search(uri)
    if match is None:
        return uri, None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", match.group(1)):
        raise ArgumentError(
            f"{argument}: #sha256= must be followed by the 64 hexadecimal digits of a SHA-256 hash, "
            f"got {match.group(1)!r}."
        )
    return uri[: match.start()], match.group(1).lower()


def parameters_of(uri: str) -> dict[str, str]:
    """The query parameters. A plus sign is one: keys have it, and do not come from a form."""
    pairs = (part.partition("=") for part in urlsplit(uri).query.split("&") if part)
    return {name: unquote(value) for name, _, value in pairs}


def mask_uri(uri: str) -> str:
    """The URI without user, password, fragment, and the values of query parameters that may be secret.

    Args:
      uri: `scheme://…`.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # no URI after all, such as an address with one bracket
        return uri[: uri.index("://") + 3] + MASK
    place = parts.netloc.rpartition("@")[2]
    place = f"{MASK}@{place}" if "@" in parts.netloc else place
    query = "&".join(map(_mask_parameter, parts.query.split("&"))) if parts.query else ""
    fragment = parts.fragment
    if fragment and not fragment.startswith("sha256="):
        fragment = MASK
    return urlunsplit((parts.scheme, place, parts.path, query, fragment))


def mask_name(name: str) -> str:
    """The same for what may be a plain path too, which is shown as it is."""
    return mask_uri(name) if _SCHEME.match(name) else name


def has_secrets(uri: str) -> bool:
    """Whether the URI holds something that masking takes away."""
    return mask_name(uri) != uri


def mask_uris(text: str) -> str:
    """A text with every URI in it masked."""
    return _URI.sub(lambda match: mask_uri(match.group()), text) if "://" in text else text


def scrub(text: str, uri: str) -> str:
    """A library's message about the URI, without the secrets that it may have repeated or been redirected to."""
    text = _QUERY.sub("?" + MASK, mask_uris(text))
    for value in sorted(_secret_values(uri), key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


def _secret_values(uri: str) -> set[str]:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return set()
    found = set(parts.netloc.rpartition("@")[0].split(":"))
    for parameter in parts.query.split("&"):
        name, equals, value = parameter.partition("=")
        if name.lower() not in _HARMLESS_PARAMETERS or not equals:
            found.add(value if equals else name)
    found |= {unquote(value) for value in found}
    return {value for value in found if len(value) >= _SCRUBBED_CHARS}


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if not equals:
        return MASK  # a bare value
    return parameter if name.lower() in _HARMLESS_PARAMETERS else f"{name}={MASK}"

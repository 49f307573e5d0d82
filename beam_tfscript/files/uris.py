"""Parts of paths and URIs, and the same without secrets.

Input: plain paths and URIs as a pipeline's author writes them. No file is opened here; `fetch.py` does that.
"""

from __future__ import annotations

import os
import re
import unicodedata
from urllib.parse import unquote, urlsplit, urlunsplit

from beam_tfscript.errors import ArgumentError

# Replacement of a secret in errors, logs and display data.
MASK = "***"

# Parameters that are never secret. All others are masked, because presigned URLs have many names for secrets.
_HARMLESS_PARAMETERS = {"addressing", "endpoint", "generation", "host", "http_port", "region", "user", "version"}
_SCHEME = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*://")
# The scheme's length is limited: else the time for a long text without a URI would grow with the square of its length.
_URI = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]{0,31}://[^\s\"'<>]+")
_QUERY = re.compile(r"\?[^\s\"'<>)]+")
_SHA256 = re.compile(r"#sha256=([^#]*)$")
_NO_NAMES = ("", ".", "..")
# Minimum length of a secret that is masked in a message; shorter values are often parts of words.
_MIN_SECRET_CHARS = 4


def scheme_of(uri: str) -> str:
    """Return the scheme in lower case; "" for a plain path."""
    match = _SCHEME.match(uri)
    return match.group()[: -len("://")].lower() if match else ""


def local_path(uri: str) -> str | None:
    """Return the path of a plain path or `file://` URI; None for any other URI."""
    if scheme_of(uri) == "file":
        path = uri[len("file://") :]
        return path[len("localhost") :] if path.startswith("localhost/") else path
    return None if _SCHEME.match(uri) else uri


def base_name(uri: str) -> str:
    """Return the last part of a path or URI, unchecked; names of files to be written come from `file_name`."""
    if not _SCHEME.match(uri):
        return os.path.basename(uri.rstrip("/"))
    path = urlsplit(uri).path.rstrip("/") if scheme_of(uri) != "file" else local_path(uri) or ""
    name = os.path.basename(path.rstrip("/"))
    return unquote(name) if scheme_of(uri) in ("http", "https") else name


def file_name(argument: str, uri: str) -> str:
    """Return the file's name in the run's directory, which never leads out of that directory.

    Every name of a file that is staged or unpacked comes from here. A server's answer, such as a redirect, does not
    change it.

    Args:
      argument: the transform's argument, for the error.
      uri: path or URI without its hash.

    Raises:
      ArgumentError: the last part of the URI cannot be a file's name.
    """
    try:
        name = base_name(uri)
    except ValueError as error:
        raise ArgumentError(f"{argument}: {mask_name(uri)!r} is not a valid URI: {error}.") from None
    if name in _NO_NAMES or any(char in "/\\" or unicodedata.category(char) == "Cc" for char in name):
        raise ArgumentError(
            f"{argument}: {mask_name(uri)!r} would be {name!r} in the run's directory, which is not allowed: a file's "
            "name must not be empty, '.' or '..', and must have no slash, backslash or control character. Rename the "
            "file, or give a directory by its own name."
        )
    return name


def split_sha256(argument: str, uri: str) -> tuple[str, str | None]:
    """Return the URI without its `#sha256=…`, and that hash in lower case, or None.

    Args:
      argument: the transform's argument, for the error.
      uri: path or URI.

    Raises:
      ArgumentError: the text after `#sha256=` is not a hash.
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
    """Return the query parameters. A plus sign stays, as keys have it; it is a space only in forms."""
    pairs = (part.partition("=") for part in urlsplit(uri).query.split("&") if part)
    return {name: unquote(value) for name, _, value in pairs}


def mask_uri(uri: str) -> str:
    """Return a URI without user, password, fragment, and the values of query parameters that may be secret.

    Args:
      uri: `scheme://…`.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # not a valid URI, such as an address with one bracket
        return uri[: uri.index("://") + 3] + MASK
    host = parts.netloc.rpartition("@")[2]
    host = f"{MASK}@{host}" if "@" in parts.netloc else host
    query = "&".join(map(_mask_parameter, parts.query.split("&"))) if parts.query else ""
    fragment = parts.fragment
    if fragment and not fragment.startswith("sha256="):
        fragment = MASK
    return urlunsplit((parts.scheme, host, parts.path, query, fragment))


def mask_name(name: str) -> str:
    """Return a path or URI as messages show it: a URI is masked, a plain path is not."""
    return mask_uri(name) if _SCHEME.match(name) else name


def has_secrets(uri: str) -> bool:
    """Return True if masking changes the URI."""
    return mask_name(uri) != uri


def mask_uris(text: str) -> str:
    """Return a text with every URI in it masked."""
    return _URI.sub(lambda match: mask_uri(match.group()), text) if "://" in text else text


def scrub(text: str, uri: str) -> str:
    """Return a library's message about a URI, without the secrets of the URI and of addresses after redirects."""
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
    return {value for value in found if len(value) >= _MIN_SECRET_CHARS}


def _mask_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if not equals:
        return MASK  # a value without a name
    return parameter if name.lower() in _HARMLESS_PARAMETERS else f"{name}={MASK}"

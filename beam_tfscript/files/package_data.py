"""Files that are data of a Python package, named as `res://package/path`."""

from __future__ import annotations

import importlib.util
import os
from urllib.parse import urlsplit

from beam_tfscript.errors import ArgumentError


def find_resource(argument: str, uri: str) -> str:
    """Return the local path of a package's file or directory; the package itself is not imported.

    Args:
      argument: the transform's argument, for the error.
      uri: `res://package.inner/directory/file`.

    Raises:
      ArgumentError: the package is not installed here, or has no such file.
    """
    parts = urlsplit(uri)
    package, inside = parts.netloc, parts.path.strip("/")
    if not package or not inside or ".." in inside.split("/"):
        raise ArgumentError(f"{argument}: {uri!r} must be res://package/path, with a path inside the package.")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError) as error:
        raise ArgumentError(f"{argument}: the package of {uri!r} cannot be found here: {error}") from error
    if spec is None or spec.submodule_search_locations is None:
        raise ArgumentError(f"{argument}: there is no package {package!r} here, for {uri!r}.")
    for directory in spec.submodule_search_locations:
        path = os.path.join(directory, *inside.split("/"))
        if os.path.exists(path):
            return path
    raise ArgumentError(
        f"{argument}: there is no {inside!r} in the package {package!r}, for {uri!r} (looked in "
        f"{', '.join(spec.submodule_search_locations)})."
    )

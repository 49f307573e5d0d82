"""Python interpreters of this machine: found by version, and started to check them.

Input: a version such as "3.8", or a path. Output: the path of an interpreter, or the version that it prints.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

from beam_tfscript.errors import ScriptEnvironmentError

__all__ = ["OLDEST", "describe_own", "explain_broken", "find_python", "inspect_python", "version_of"]

_LOGGER = logging.getLogger("beam_tfscript.script")

# The oldest Python that the runtime's syntax and its use of the standard library allow.
OLDEST = (3, 6)
# Long enough for an interpreter on a slow network disk, with cold caches.
_START_TIMEOUT_S = 60.0
# Error numbers of temporary failures, such as too many processes or descriptors.
_TEMPORARY = {errno.EAGAIN, errno.EMFILE, errno.EINTR, errno.EIO, errno.ENFILE, errno.ENOMEM, errno.ETXTBSY}
_PRINT_VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


class _BrokenError(ScriptEnvironmentError):
    """The interpreter does not start; a retry will not help."""


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a version such as "3.8" or "3.8.18"."""
    return tuple(map(int, text.split(".")))


def describe_own() -> str:
    """Return the end of a message about versions: the version of the worker's own Python."""
    return f"the pipeline's worker is Python {_join(sys.version_info[:3])}"


def clean_environment() -> dict[str, str]:
    """Return the worker's environment variables, without those that put its modules on another interpreter's path."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def inspect_python(python: str) -> tuple[int, ...]:
    """Start an interpreter, and return its version, such as (3, 8, 18).

    Raises:
      ScriptEnvironmentError: the interpreter does not start, or is too old for the runtime.
    """
    try:
        version = _ask_version(python)
    except _BrokenError as error:
        raise ScriptEnvironmentError(str(error)) from error.__cause__
    if version < OLDEST:
        raise ScriptEnvironmentError(
            f"{python} is Python {_join(version)}, and the script's interpreter must be {_join(OLDEST)} or newer "
            f"({describe_own()}, which does not matter)."
        )
    return version


def explain_broken(python: str) -> str | None:
    """Return the reason why an interpreter will never start; None if it starts, or may start the next time."""
    try:
        _ask_version(python)
    except _BrokenError as error:
        return str(error)
    except ScriptEnvironmentError as error:
        # The machine is busy. The script's process has a longer timeout, and an error of its own.
        _LOGGER.info("cannot check that %s starts: %s", python, error)
    return None


def _ask_version(python: str) -> tuple[int, ...]:
    """Return the version that an interpreter prints.

    Raises:
      _BrokenError: the interpreter does not start, or does not work.
      ScriptEnvironmentError: the interpreter does not start now, but may start the next time.
    """
    try:
        asked = subprocess.run(
            [python, "-c", _PRINT_VERSION],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_START_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ScriptEnvironmentError(f"{python} did not print its version in {_START_TIMEOUT_S:g} s.") from error
    except OSError as error:
        kind = ScriptEnvironmentError if error.errno in _TEMPORARY else _BrokenError
        raise kind(f"{python} cannot be started: {error}.{_explain_home(python)}") from error
    version = asked.stdout.strip()
    if asked.returncode != 0 or not re.fullmatch(r"\d+\.\d+\.\d+", version):
        printed = "\n".join((asked.stderr or asked.stdout).strip().splitlines()[-10:])
        # The kernel sends SIGKILL when memory runs out, and a machine that shuts down sends both signals.
        kind = ScriptEnvironmentError if asked.returncode in (-signal.SIGKILL, -signal.SIGTERM) else _BrokenError
        raise kind(
            f"{python} does not work: `{python} -c 'import sys; …'` ended with exit status {asked.returncode}."
            f"{_explain_home(python)} It printed:\n{printed or '(nothing)'}"
        )
    return version_of(version)


def find_python(version: str) -> str | None:
    """Return the path of an interpreter that has a version and starts; None if there is none.

    Args:
      version: "3.8" for any 3.8, or "3.8.18" for exactly this one.
    """
    wanted = version_of(version)
    if sys.executable and sys.version_info[: len(wanted)] == wanted:
        return sys.executable
    for path in _candidates(wanted):
        try:
            if inspect_python(path)[: len(wanted)] == wanted:
                return path
        except ScriptEnvironmentError:
            continue  # such as a shim of pyenv, which starts only the selected versions
    return None


def _candidates(wanted: tuple[int, ...]) -> Iterator[str]:
    minor = _join(wanted[:2])
    for folder in os.get_exec_path():
        path = os.path.join(folder, f"python{minor}")
        if os.access(path, os.X_OK):
            yield path
    for pattern in (f"{_pyenv_root()}/{minor}.*/bin/python", f"{_uv_root()}/cpython-{minor}.*/bin/python{minor}"):
        yield from sorted(glob.glob(pattern), key=_by_numbers, reverse=True)


def _by_numbers(path: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path)]


def _pyenv_root() -> str:
    return os.path.join(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"), "versions")


def _uv_root() -> str:
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv", "python")


def _explain_home(python: str) -> str:
    """Return a sentence about a virtual environment whose base interpreter is not on this machine; "" for others."""
    settings = os.path.join(os.path.dirname(os.path.dirname(python)), "pyvenv.cfg")
    try:
        with open(settings, encoding="utf-8", errors="replace") as file:
            found = re.search(r"^home\s*=\s*(.+?)\s*$", file.read(), re.MULTILINE)
    except OSError:
        return ""
    if found is None or os.path.isdir(found.group(1)):
        return ""
    return (
        f" It is a virtual environment of the interpreter in {found.group(1)}, which is not on this machine: pack an "
        "environment that holds its interpreter, as conda-pack does, or give requirements=[…]."
    )


def _join(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))

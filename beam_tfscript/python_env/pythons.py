"""Python interpreters of this machine: found by their version, and asked which one they are.

In comes a version such as "3.8", or a path. Out goes the path, or what the interpreter there says of itself.
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

# What the runtime's syntax and standard library need.
OLDEST = (3, 6)
# An interpreter on a slow network disk, with cold caches.
_START_TIMEOUT_S = 60.0
# What the system says when it has no room for a process or a descriptor just now.
_PASSING = {errno.EAGAIN, errno.EMFILE, errno.EINTR, errno.EIO, errno.ENFILE, errno.ENOMEM, errno.ETXTBSY}
_ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


class _Broken(ScriptEnvironmentError):
    """The interpreter does not start, and will not the next time."""


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of "3.8" or "3.8.18"."""
    return tuple(map(int, text.split(".")))


def describe_own() -> str:
    """What errors say of the pipeline's side."""
    return f"the pipeline's worker is Python {_join(sys.version_info[:3])}"


def clean_environment() -> dict[str, str]:
    """The worker's environment variables without those that lead another interpreter to the worker's own modules."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def inspect_python(python: str) -> tuple[int, ...]:
    """Starts an interpreter and asks for its version, such as (3, 8, 18).

    Raises:
      ScriptEnvironmentError: it does not start, or is too old for the runtime.
    """
    try:
        version = _ask_version(python)
    except _Broken as error:
        raise ScriptEnvironmentError(str(error)) from error.__cause__
    if version < OLDEST:
        raise ScriptEnvironmentError(
            f"{python} is Python {_join(version)}, and the script's interpreter must be {_join(OLDEST)} or newer "
            f"({describe_own()}, which does not matter)."
        )
    return version


def explain_broken(python: str) -> str | None:
    """Why an interpreter will never start; None for one that starts, or may the next time."""
    try:
        _ask_version(python)
    except _Broken as error:
        return str(error)
    except ScriptEnvironmentError as error:
        # A busy machine. The script's process has more time to start, and says so itself if it does not.
        _LOGGER.info("whether %s starts is not known: %s", python, error)
    return None


def _ask_version(python: str) -> tuple[int, ...]:
    """The version that an interpreter says it has.

    Raises:
      _Broken: it does not start, or does not work.
      ScriptEnvironmentError: it does not start now, and may the next time.
    """
    try:
        asked = subprocess.run(
            [python, "-c", _ASK],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_START_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ScriptEnvironmentError(f"{python} did not say its version in {_START_TIMEOUT_S:g} s.") from error
    except OSError as error:
        kind = ScriptEnvironmentError if error.errno in _PASSING else _Broken
        raise kind(f"{python} cannot be started: {error}.{_explain_home(python)}") from error
    version = asked.stdout.strip()
    if asked.returncode != 0 or not re.fullmatch(r"\d+\.\d+\.\d+", version):
        said = "\n".join((asked.stderr or asked.stdout).strip().splitlines()[-10:])
        # The kernel sends the first where memory runs out, and a machine that shuts down sends both.
        kind = ScriptEnvironmentError if asked.returncode in (-signal.SIGKILL, -signal.SIGTERM) else _Broken
        raise kind(
            f"{python} does not work: `{python} -c 'import sys; …'` ended with exit status {asked.returncode}."
            f"{_explain_home(python)} It said:\n{said or '(nothing)'}"
        )
    return version_of(version)


def find_python(version: str) -> str | None:
    """The path of an interpreter of that version which starts; None where there is none.

    Args:
      version: "3.8", or exactly "3.8.18".
    """
    wanted = version_of(version)
    if sys.executable and sys.version_info[: len(wanted)] == wanted:
        return sys.executable
    for path in _candidates(wanted):
        try:
            if inspect_python(path)[: len(wanted)] == wanted:
                return path
        except ScriptEnvironmentError:
            continue  # such as a shim of pyenv, which starts only the versions that are chosen
    return None


def describe_search(version: str) -> str:
    """Where `find_python` looks, for errors."""
    name = f"python{_join(version_of(version)[:2])}"
    return f"looked for {name} in PATH ({os.environ.get('PATH', '')}), and in {_pyenv_root()} and {_uv_root()}"


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
    """What is wrong with a virtual environment that was moved away from the interpreter it was made with."""
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

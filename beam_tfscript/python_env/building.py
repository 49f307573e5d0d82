"""Builds an environment from requirements, by uv where it is there, else by venv and pip.

In come a directory, the requirements and an interpreter or its version. Out goes an environment with `bin/python`
in it, or an error with the last lines that the tool printed.
"""

from __future__ import annotations

import configparser
import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from typing import IO

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files.machine_cache import BUILD_TIMEOUT_S, NOTICE_S
from beam_tfscript.files.uris import mask_uris, scrub
from beam_tfscript.python_env.pythons import clean_environment

__all__ = ["find_uv", "install", "run_tool", "uv_variables"]

_LOGGER = logging.getLogger("beam_tfscript.script")

_TAIL_LINES = 20
_TAIL_BYTES = 8192
_URI = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*://[^\s\"',]+")

# pip's setting -> uv's variable: uv reads none of pip's, and people have their index there.
_UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def install(directory: str, requirements: Collection[str], *, python: str, lock: int, what: str) -> None:
    """Makes a virtual environment in a directory and installs into it.

    Args:
      directory: not there yet.
      requirements: lines as in a requirements file.
      python: path of an interpreter; for uv also a version, which it then looks for, or fetches.
      lock: a descriptor that the tools are to inherit.
      what: what the environment is called in the log and in errors.

    Raises:
      ScriptEnvironmentError: a tool failed; with the last lines of its output.
    """
    environment = clean_environment()
    environment = {**uv_variables(environment), **environment}
    told = [value for name, value in environment.items() if name.startswith(("PIP_", "UV_"))]
    hidden = _URI.findall("\n".join([*map(os.path.expandvars, requirements), *told]))
    listed = directory + "-requirements.txt"
    with open(listed, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in requirements)
    target = os.path.join(directory, "bin", "python")
    if uv := find_uv():
        commands = [
            [*uv, "venv", "--no-project", "--python", python, directory],
            [*uv, "pip", "install", "--python", target, "--requirement", listed],
        ]
    else:
        pip = [target, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        commands = [
            [python, "-m", "venv", directory],
            # The pip that comes with some of Python 3.6 and 3.7 knows none of the wheels that TensorFlow has.
            [*pip, "pip>=20"],
            [*pip, "--requirement", listed],
        ]
    for command in commands:
        run_tool(command, environment=environment, lock=lock, what=what, hidden=hidden)
    os.unlink(listed)


def find_uv() -> list[str]:
    """The command that is uv; empty where it is neither in PATH nor installed beside this package."""
    if path := shutil.which("uv"):
        return [path]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def uv_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What pip is told by its configuration files and environment variables, as environment variables of uv.

    Args:
      environment: the environment variables that pip would see.
    """
    settings = _pip_settings(environment)
    variables = {_UV_VARIABLES[name]: value for name, value in settings.items() if name in _UV_VARIABLES and value}
    if "UV_FIND_LINKS" in variables:
        variables["UV_FIND_LINKS"] = ",".join(variables["UV_FIND_LINKS"].split())
    for name in ("UV_INDEX", "UV_INSECURE_HOST"):
        if name in variables:
            variables[name] = " ".join(variables[name].split())
    if "UV_INDEX" in variables:
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # as pip chooses among several indexes
    return variables


def _pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    home = os.path.expanduser("~")
    own = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    files = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", f"{home}/.pip/pip.conf", f"{own}/pip/pip.conf"]
    if named := environment.get("PIP_CONFIG_FILE"):
        files = [] if named == os.devnull else [*files, named]
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(files, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        _LOGGER.warning("pip's configuration cannot be read, and is left out: %s", mask_uris(str(error)))
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update(parser.items(section))
    for name in _UV_VARIABLES:
        if (value := environment.get("PIP_" + name.upper().replace("-", "_"))) is not None:
            settings[name] = value
    return settings


def run_tool(
    command: list[str], *, environment: Mapping[str, str], lock: int, what: str, hidden: Collection[str] = ()
) -> None:
    """Runs a program to its end, and says in the log every while that it is at work.

    Args:
      command: the program and its arguments.
      environment: its environment variables.
      lock: a descriptor that it is to inherit.
      what: what it is run for, for the log and for errors.
      hidden: URIs whose secrets it may print.

    Raises:
      ScriptEnvironmentError: it cannot be started, fails, or takes longer than `BUILD_TIMEOUT_S`.
    """
    shown = " ".join(command)
    with tempfile.TemporaryFile() as output:
        try:
            tool = _start(command, output, environment, lock)
        except OSError as error:
            raise ScriptEnvironmentError(f"{what}: `{shown}` cannot be started: {error}") from error
        try:
            code = _wait(tool, output, what, hidden)
        finally:
            if tool.poll() is None:
                os.killpg(tool.pid, signal.SIGKILL)
                tool.wait()
        if code != 0:
            end = f"failed with exit status {code}" if code is not None else f"was ended after {BUILD_TIMEOUT_S:g} s"
            raise ScriptEnvironmentError(
                f"{what} cannot be built: `{shown}` {end}. The last lines it printed:\n"
                f"{_tail(output, _TAIL_LINES, hidden)}"
            )


def _start(command: list[str], output: IO[bytes], environment: Mapping[str, str], lock: int) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        # It holds the lock for as long as it lives, so that nobody builds where it still writes.
        pass_fds=(lock,),
        start_new_session=True,
    )


def _wait(tool: subprocess.Popen, output: IO[bytes], what: str, hidden: Collection[str]) -> int | None:
    """The exit status; None for a program that took too long."""
    started_at = time.monotonic()
    while (spent := time.monotonic() - started_at) < BUILD_TIMEOUT_S:
        try:
            return tool.wait(NOTICE_S)
        except subprocess.TimeoutExpired:
            _LOGGER.info("still building %s after %.0f s: %s", what, spent + NOTICE_S, _tail(output, 1, hidden))
    return None


def _tail(output: IO[bytes], lines: int, hidden: Collection[str]) -> str:
    # By `pread`: the tool writes at the file's one position.
    size = os.fstat(output.fileno()).st_size
    text = os.pread(output.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
    # A progress bar is many lines on one.
    printed = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    tail = mask_uris("\n".join(printed[-lines:]))
    for uri in hidden:
        tail = scrub(tail, uri)  # tools also print addresses without their beginning
    return tail or "(nothing)"

"""Environments built from requirements by uv, and the execution of uv and other tools.

Input: a directory, the requirements, and an interpreter or its version. Output: an environment with `bin/python` in
the directory, or an error with the last lines that the tool printed.
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
from beam_tfscript.python_env.interpreters import clean_environment

__all__ = ["install", "pip_settings", "run_tool", "uv_variables"]

_LOGGER = logging.getLogger("beam_tfscript.script")

_TAIL_LINES = 20
_TAIL_BYTES = 8192
_URI = re.compile(r"[a-zA-Z][-a-zA-Z0-9+.]*://[^\s\"',]+")

# pip's setting -> uv's variable. uv does not read pip's settings, in which users have their index.
_UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
# uv has no variable for it, only an option.
_NO_INDEX = "no-index"
# uv compiles bytecode with a program that older Pythons cannot run.
_UV_COMPILES = (3, 7)
_TRUE = ("1", "on", "t", "true", "y", "yes")


def install(directory: str, requirements: Collection[str], *, python: str, lock: int, label: str) -> None:
    """Make a virtual environment and install requirements into it.

    Args:
      directory: path of the environment, which does not exist yet.
      requirements: lines as in a requirements file.
      python: path of an interpreter, or a version such as "3.8", which uv finds or downloads.
      lock: a descriptor that uv inherits.
      label: the environment's name in the log and in errors.

    Raises:
      ScriptEnvironmentError: uv is missing, or fails; with the last lines of its output.
    """
    uv = _find_uv(label)
    environment = clean_environment()
    settings = pip_settings(environment)
    environment = {**uv_variables(settings), **environment}
    options = ["--no-index"] if settings.get(_NO_INDEX, "").strip().lower() in _TRUE else []
    values = [value for name, value in environment.items() if name.startswith(("PIP_", "UV_"))]
    uris = _URI.findall("\n".join([*map(os.path.expandvars, requirements), *values]))
    requirements_file = directory + "-requirements.txt"
    with open(requirements_file, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in requirements)
    target = os.path.join(directory, "bin", "python")
    make = [*uv, "venv", "--no-project", "--python", python, directory]
    run_tool(make, environment=environment, lock=lock, label=label, uris=uris)
    if _python_of(directory) >= _UV_COMPILES:
        # As pip does. In many images, imports write no bytecode; each process would then compile all of TensorFlow.
        environment = {"UV_COMPILE_BYTECODE": "1", **environment}
    fill = [*uv, "pip", "install", "--python", target, *options, "--requirement", requirements_file]
    run_tool(fill, environment=environment, lock=lock, label=label, uris=uris)
    os.unlink(requirements_file)


def _python_of(directory: str) -> tuple[int, ...]:
    """Return the version of the Python of a virtual environment, such as (3, 8); () if uv has not noted it."""
    try:
        with open(os.path.join(directory, "pyvenv.cfg"), encoding="utf-8") as file:
            found = re.search(r"^version_info = (\d+)\.(\d+)", file.read(), re.MULTILINE)
    except OSError:
        return ()
    return () if found is None else tuple(map(int, found.groups()))


def _find_uv(label: str) -> list[str]:
    """Return the command that runs uv: a program in PATH, or the module installed beside this package."""
    if path := shutil.which("uv"):
        return [path]
    if importlib.util.find_spec("uv") is None:
        raise ScriptEnvironmentError(
            f"{label} cannot be built: uv, which builds it, is neither in PATH nor installed for {sys.executable}. "
            "Install it on the workers: pip install uv."
        )
    return [sys.executable, "-m", "uv"]


def uv_variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Return settings of pip, by name, as environment variables of uv."""
    variables = {_UV_VARIABLES[name]: value for name, value in settings.items() if name in _UV_VARIABLES and value}
    if "UV_FIND_LINKS" in variables:
        variables["UV_FIND_LINKS"] = ",".join(variables["UV_FIND_LINKS"].split())
    for name in ("UV_INDEX", "UV_INSECURE_HOST"):
        if name in variables:
            variables[name] = " ".join(variables[name].split())
    if "UV_INDEX" in variables:
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # as pip chooses among several indexes
    return variables


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings about indexes, by name, from its configuration files and environment variables.

    Args:
      environment: the environment variables that pip would read.
    """
    home = os.path.expanduser("~")
    configuration = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    files = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", f"{home}/.pip/pip.conf", f"{configuration}/pip/pip.conf"]
    if named := environment.get("PIP_CONFIG_FILE"):
        files = [] if named == os.devnull else [*files, named]
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(files, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        _LOGGER.warning("pip's configuration cannot be read, and is ignored: %s", mask_uris(str(error)))
    settings: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update(parser.items(section))
    for name in (*_UV_VARIABLES, _NO_INDEX):
        if (value := environment.get("PIP_" + name.upper().replace("-", "_"))) is not None:
            settings[name] = value
    return settings


def run_tool(
    command: list[str], *, environment: Mapping[str, str], lock: int, label: str, uris: Collection[str] = ()
) -> None:
    """Run a program to its end, with a log line at intervals.

    Args:
      command: the program and its arguments.
      environment: the program's environment variables.
      lock: a descriptor that the program inherits.
      label: the result's name in the log and in errors.
      uris: URIs whose secrets the program may print.

    Raises:
      ScriptEnvironmentError: the program cannot be started, fails, or takes longer than `BUILD_TIMEOUT_S`.
    """
    command_line = " ".join(command)
    with tempfile.TemporaryFile() as output:
        try:
            tool = _start(command, output, environment, lock)
        except OSError as error:
            raise ScriptEnvironmentError(f"{label}: `{command_line}` cannot be started: {error}") from error
        try:
            code = _wait(tool, output, label, uris)
        finally:
            if tool.poll() is None:
                os.killpg(tool.pid, signal.SIGKILL)
                tool.wait()
        if code != 0:
            end = f"failed with exit status {code}" if code is not None else f"was ended after {BUILD_TIMEOUT_S:g} s"
            raise ScriptEnvironmentError(
                f"{label} cannot be built: `{command_line}` {end}. The last lines it printed:\n"
                f"{_tail(output, _TAIL_LINES, uris)}"
            )


def _start(command: list[str], output: IO[bytes], environment: Mapping[str, str], lock: int) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        # The tool holds the lock as long as it lives, so that no other process builds where the tool still writes.
        pass_fds=(lock,),
        start_new_session=True,
    )


def _wait(tool: subprocess.Popen, output: IO[bytes], label: str, uris: Collection[str]) -> int | None:
    """Wait for a tool, and return its exit status; None after the timeout."""
    started_at = time.monotonic()
    while (elapsed_s := time.monotonic() - started_at) < BUILD_TIMEOUT_S:
        try:
            return tool.wait(NOTICE_S)
        except subprocess.TimeoutExpired:
            _LOGGER.info("still building %s after %.0f s: %s", label, elapsed_s + NOTICE_S, _tail(output, 1, uris))
    return None


def _tail(output: IO[bytes], lines: int, uris: Collection[str]) -> str:
    """Return the last lines of a tool's output, without the secrets of URIs."""
    # By `pread`, which does not move the position at which the tool writes.
    size = os.fstat(output.fileno()).st_size
    text = os.pread(output.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
    # A progress bar overwrites its line by carriage returns.
    printed = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    tail = mask_uris("\n".join(printed[-lines:]))
    for uri in uris:
        tail = scrub(tail, uri)  # tools also print parts of addresses
    return tail or "(nothing)"

"""The transform's arguments about the script's environment, as one frozen value, checked while the pipeline is built.

Input: `python_env`, `requirements` and `python_version`. Output: a value from which `environment.py` finds or builds
the environment on a worker.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence

from packaging.requirements import InvalidRequirement, Requirement

from beam_tfscript.errors import ArgumentError, ScriptEnvironmentError
from beam_tfscript.files import archives, uris
from beam_tfscript.files.staging import ScriptFile, collect_file
from beam_tfscript.files.uris import mask_uris
from beam_tfscript.python_env import interpreters

__all__ = ["PYTHON", "PythonEnv", "check_python_env"]

# Path of the interpreter in an environment.
PYTHON = os.path.join("bin", "python")

# Scheme of a directory that is on the workers alone, as in their image.
_ON_WORKERS = "worker://"
_VERSION = re.compile(r"3\.\d{1,2}(\.\d{1,2})?")
_PASSWORD = re.compile(r"://(?:[^/@\s]*:)?([^/@:\s]+)@")
_NO_PASSWORD = re.compile(r"git|\$\{\w+\}")
# Options of a requirements file for other files, which a worker does not have.
_FILE_OPTION = re.compile(r"(-r|-c|-e|--requirement|--constraint|--editable)\b")


@dataclasses.dataclass(frozen=True)
class PythonEnv:
    """The environment of a script; a plain value in the job graph. Without attributes, the worker's own environment.

    Attributes:
      directory: a directory with `bin/python`, on every worker.
      archive: an archive of such a directory.
      requirements: lines as in a requirements file, from which the environment is built.
      python_version: version of the built environment's Python, such as "3.8"; None for the worker's.
    """

    directory: str | None = None
    archive: ScriptFile | None = None
    requirements: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    python_version: str | None = None

    def __str__(self) -> str:
        """Return the environment's name in messages, without secrets."""
        if self.directory is not None:
            return self.directory
        if self.archive is not None:
            return uris.mask_name(self.archive.uri)
        if self.requirements:
            return f"Python {self.python_version or 'of the worker'} with {mask_uris(', '.join(self.requirements))}"
        return "the worker's own"


def check_python_env(
    python_env: str | None, *, requirements: Sequence[str] | None = None, python_version: str | None = None
) -> PythonEnv:
    """Check the transform's arguments while the pipeline is built.

    Args:
      python_env: a directory with `bin/python`, or an archive of one, by path or URI; or `worker://` and the path of a
        directory on the workers, which is not looked for here.
      requirements: lines of a requirements file, instead of `python_env`.
      python_version: version of the interpreter for the requirements, such as "3.8".

    Raises:
      ArgumentError: an argument breaks a rule; the message names the argument, its value and the rule.
    """
    if python_env is not None and not (isinstance(python_env, str) and python_env):
        got = "''" if python_env == "" else type(python_env).__name__
        raise ArgumentError(f"python_env must be the path or URI of an environment, or None, got {got}.")
    if requirements is not None:
        if python_env is not None:
            raise ArgumentError("python_env and requirements both set the environment: give only one of them.")
        return PythonEnv(requirements=_check_requirements(requirements), python_version=_check_version(python_version))
    if python_version is not None:
        raise ArgumentError(
            f"python_version={python_version!r} is for an environment that is built: it needs requirements=[…]."
        )
    if python_env is None:
        return PythonEnv()
    if python_env.startswith(_ON_WORKERS):
        return PythonEnv(directory=_check_directory_of_workers(python_env))
    path = uris.local_path(python_env)
    if path is not None and os.path.isdir(path):
        return PythonEnv(directory=_check_directory(python_env, os.path.abspath(path)))
    return PythonEnv(archive=_check_archive(python_env))


def _check_requirements(requirements: Sequence[str]) -> tuple[str, ...]:
    rule = 'requirements must be a list of lines as in a requirements file, such as ["tensorflow==2.3.4"]'
    if isinstance(requirements, str) or not isinstance(requirements, Sequence) or not requirements:
        raise ArgumentError(f"{rule}, got {mask_uris(repr(requirements))}.")
    for line in requirements:
        if not isinstance(line, str) or not line.strip() or "\n" in line:
            raise ArgumentError(f"{rule}, got {mask_uris(repr(line))} in it.")
        if _FILE_OPTION.match(line.strip()):
            raise ArgumentError(f"{rule}: workers do not have the file of {mask_uris(line)!r}; list its lines instead.")
        password = _PASSWORD.search(line)
        if password is not None and not _NO_PASSWORD.fullmatch(password.group(1)):
            raise ArgumentError(
                f"requirements: {mask_uris(line)!r} has a password, which everyone could read in the job: name a "
                "variable of the workers' environment instead, as in https://me:${MY_PASSWORD}@host/, or set "
                "PIP_INDEX_URL or PIP_EXTRA_INDEX_URL on the workers."
            )
        if line.strip().startswith("--") or "://" in line:
            continue
        try:
            Requirement(line.partition(" --")[0])  # such as --hash
        except InvalidRequirement as error:
            raise ArgumentError(f"{rule}, got {line!r} in it: {error}") from error
    return tuple(line.strip() for line in requirements)


def _check_version(version: str | None) -> str | None:
    if version is None:
        return None
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ArgumentError(f'python_version must be text such as "3.8" or "3.8.18", got {version!r}.')
    if interpreters.version_of(version)[:2] < interpreters.OLDEST:
        raise ArgumentError(f"python_version must be 3.6 or newer, got {version!r}.")
    return version


def _check_directory(argument: str, path: str) -> str:
    if not os.access(os.path.join(path, PYTHON), os.X_OK):
        raise ArgumentError(f"python_env must be a directory with an interpreter bin/python in it, got {argument!r}.")
    return path


def _check_directory_of_workers(argument: str) -> str:
    path = argument[len(_ON_WORKERS) :]
    if not path.startswith("/") or not path.strip("/"):
        raise ArgumentError(
            f"python_env: after {_ON_WORKERS!r} must come the path of a directory on the workers, as in "
            f"'{_ON_WORKERS}/opt/script', got {argument!r}."
        )
    return os.path.normpath(path)


def _check_archive(argument: str) -> ScriptFile:
    # Without the content: an environment is unpacked once per machine, and is never in the job graph.
    file = dataclasses.replace(collect_file("python_env", argument), content=None, is_environment=True)
    masked_uri = uris.mask_name(file.uri)
    if file.path is not None and os.path.basename(os.path.dirname(file.path)) == "bin" and "python" in file.name:
        raise ArgumentError(
            f"python_env must be the directory of the environment, not its interpreter: "
            f"{os.path.dirname(os.path.dirname(file.path))!r}, got {argument!r}."
        )
    if file.is_directory or (file.path is None and not file.name.lower().endswith(archives.SUFFIXES)):
        raise ArgumentError(
            f"python_env: {masked_uri!r} must be an archive, one of {', '.join(archives.SUFFIXES)}: only a local "
            "directory can be used without packing it."
        )
    if file.path is not None:
        try:
            archives.check_archive(file.path, name=repr(masked_uri))
        except ScriptEnvironmentError as error:
            raise ArgumentError(f"python_env must be a directory or an archive of one: {error}") from error
    return file

"""Search for the script's interpreter: the worker's own, or that of a directory, an archive, or a built environment.

Input: the transform's arguments as one value (`python_env.py`). Output: the path of an interpreter that has been
started once. Environments are unpacked or built once per machine (`machine_cache.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files import archives
from beam_tfscript.files import machine_cache as env_cache
from beam_tfscript.files.fetch import hash_file
from beam_tfscript.files.staging import ScriptFile, find_file
from beam_tfscript.python_env import building, interpreters, manifest
from beam_tfscript.python_env.python_env import PYTHON, PythonEnv

__all__ = ["find_interpreter"]

# Names in an entry of the cache: the environment, and the list of its files.
_ENV, _MANIFEST = "env", "manifest"
# Interpreters of complete environments that this process has found; each DoFn's setup asks for one.
_found: dict[PythonEnv, str] = {}


def find_interpreter(env: PythonEnv | None = None) -> str:
    """Return the path of the interpreter on this worker; unpack or build its environment if necessary.

    Args:
      env: the environment; None for the worker's own.

    Raises:
      ScriptEnvironmentError: there is no interpreter, it does not start, or its environment cannot be fetched or built.
    """
    env = env or PythonEnv()
    python = _found.get(env)
    if python is None or not os.access(python, os.X_OK) or not env_cache.note_use(python):
        python = _found[env] = _find(env)
    return python


def _find(env: PythonEnv) -> str:
    if env.directory is not None:
        python = os.path.join(env.directory, PYTHON)
        interpreters.inspect_python(python)
        return python
    if env.archive is not None:
        return _unpack_once(env, env.archive)
    if env.requirements:
        return _install_once(env)
    if not sys.executable or not os.access(sys.executable, os.X_OK):
        raise ScriptEnvironmentError(
            f"the worker does not know its Python interpreter (sys.executable is {sys.executable!r}), so the script "
            "has none: run the SDK worker by a Python interpreter, or give python_env."
        )
    return sys.executable


def _unpack_once(env: PythonEnv, file: ScriptFile) -> str:
    # The key is the content's hash; where it is not known, the archive is fetched first.
    fetched = None if file.sha256 else find_file(file)
    sha256 = file.sha256 or hash_file(fetched or "")

    def unpack(directory: str, lock: int) -> str:
        root = os.path.join(directory, _ENV)
        archives.unpack(fetched or find_file(file), root, name=f"the environment {env}", links=True)
        root = _find_root(root, archives.strip_suffix(file.name), env)
        relocate = os.path.join(root, "bin", "conda-unpack")
        if os.path.exists(relocate):
            command = [os.path.join(root, PYTHON), relocate]
            variables = interpreters.clean_environment()
            building.run_tool(command, environment=variables, lock=lock, label=f"the environment {env}")
        return _settle(directory, root)

    return _python_of(
        env_cache.build_once(f"archive-{sha256}", unpack, label=f"the environment {env}", find_damage=_find_damage)
    )


def _install_once(env: PythonEnv) -> str:
    version = env.python_version or platform.python_version()
    python = interpreters.find_python(version)
    base = os.path.realpath(python) if python else f"uv's {version}"
    parts = json.dumps([env.requirements, base, version, platform.machine()])

    def install(directory: str, lock: int) -> str:
        root = os.path.join(directory, _ENV)
        label = f"the environment {env}"
        building.install(root, env.requirements, python=python or version, lock=lock, label=label)
        return _settle(directory, root)

    key = f"requirements-{hashlib.sha256(parts.encode()).hexdigest()}"
    return _python_of(env_cache.build_once(key, install, label=f"the environment {env}", find_damage=_find_damage))


def _settle(directory: str, root: str) -> str:
    """Check that the interpreter starts, and write the list of files; return the interpreter's path in the entry."""
    interpreters.inspect_python(os.path.join(root, PYTHON))
    manifest.write_manifest(os.path.join(directory, _ENV), os.path.join(directory, _MANIFEST))
    return os.path.relpath(os.path.join(root, PYTHON), directory)


def _python_of(built: env_cache.Built) -> str:
    return os.path.join(built.directory, built.note)


def _find_damage(built: env_cache.Built) -> str | None:
    """Return the reason why every run in an environment would fail, such as missing files; None if there is none."""
    reason = manifest.find_damage(os.path.join(built.directory, _ENV), os.path.join(built.directory, _MANIFEST))
    return reason or interpreters.explain_broken(_python_of(built))


def _find_root(unpacked: str, name: str, env: PythonEnv) -> str:
    """Return the environment's directory in an archive: its top, the directory of its name, or its first entry."""
    entries = sorted(os.listdir(unpacked))
    named = [name] if name in entries else []
    for root in (unpacked, *(os.path.join(unpacked, entry) for entry in named + entries[:1])):
        if os.access(os.path.join(root, PYTHON), os.X_OK):
            return root
    raise ScriptEnvironmentError(
        f"the environment {env} has no interpreter bin/python, neither at its top nor in a directory {name!r}; at "
        f"its top are {', '.join(map(repr, entries[:10])) or 'no files'}."
    )

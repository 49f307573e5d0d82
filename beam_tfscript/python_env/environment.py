"""Which Python interpreter runs the script: the worker's own, a directory's, an archive's, or one that is built.

In comes what the transform's arguments were made into (`python_env.py`). Out goes the path of an interpreter that was
seen to start. What has to be unpacked or built is, once on a machine (`env_cache.py`).
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
from beam_tfscript.python_env import building, manifest, pythons
from beam_tfscript.python_env.python_env import PYTHON, PythonEnv

__all__ = ["find_interpreter"]

# In an entry of the cache: the environment, and the list of its files.
_ENV, _MANIFEST = "env", "manifest"
# What this process found, and saw to be whole; an interpreter is looked for by every DoFn that is set up.
_found: dict[PythonEnv, str] = {}


def find_interpreter(env: PythonEnv | None = None) -> str:
    """The path of the interpreter on this worker; unpacks or builds its environment if no one here has yet.

    Args:
      env: which; None for the worker's own.

    Raises:
      ScriptEnvironmentError: there is none, it does not start, or its environment cannot be fetched or built.
    """
    env = env or PythonEnv()
    python = _found.get(env)
    if python is None or not os.access(python, os.X_OK) or not env_cache.note_use(python):
        python = _found[env] = _find(env)
    return python


def _find(env: PythonEnv) -> str:
    if env.directory is not None:
        python = os.path.join(env.directory, PYTHON)
        pythons.inspect_python(python)
        return python
    if env.archive is not None:
        return _unpack_once(env, env.archive)
    if env.requirements:
        return _install_once(env)
    if not sys.executable or not os.access(sys.executable, os.X_OK):
        raise ScriptEnvironmentError(
            f"the worker does not know its Python interpreter (sys.executable is {sys.executable!r}), so the script "
            "cannot be given one: run the SDK worker by a Python interpreter."
        )
    return sys.executable


def _unpack_once(env: PythonEnv, file: ScriptFile) -> str:
    # The content's hash is what tells environments apart; where it is not known, the archive is fetched to know it.
    fetched = None if file.sha256 else find_file(file)
    sha256 = file.sha256 or hash_file(fetched or "")

    def unpack(directory: str, lock: int) -> str:
        root = os.path.join(directory, _ENV)
        archives.unpack(fetched or find_file(file), root, name=f"the environment {env}", links=True)
        root = _find_root(root, archives.strip_suffix(file.name), env)
        relocate = os.path.join(root, "bin", "conda-unpack")
        if os.path.exists(relocate):
            command = [os.path.join(root, PYTHON), relocate]
            building.run_tool(
                command, environment=pythons.clean_environment(), lock=lock, what=f"the environment {env}"
            )
        return _settle(directory, root)

    return _python_of(
        env_cache.build_once(f"archive-{sha256}", unpack, what=f"the environment {env}", find_damage=_find_damage)
    )


def _install_once(env: PythonEnv) -> str:
    version = env.python_version or platform.python_version()
    python = pythons.find_python(version)
    if python is None and not building.find_uv():
        raise ScriptEnvironmentError(
            f"there is no Python {version} on this worker for the environment {env}: {pythons.describe_search(version)}"
            ". Install it there, or install uv, which fetches it."
        )
    base = os.path.realpath(python) if python else f"uv's {version}"
    made_of = json.dumps([env.requirements, base, version, platform.machine()])

    def install(directory: str, lock: int) -> str:
        root = os.path.join(directory, _ENV)
        building.install(
            root, env.requirements, python=python or version, lock=lock, what=f"the environment {env}"
        )  # fmt: skip
        return _settle(directory, root)

    key = f"requirements-{hashlib.sha256(made_of.encode()).hexdigest()}"
    return _python_of(env_cache.build_once(key, install, what=f"the environment {env}", find_damage=_find_damage))


def _settle(directory: str, root: str) -> str:
    """Sees that the interpreter starts, and writes down what belongs to it; where it is inside what was built."""
    pythons.inspect_python(os.path.join(root, PYTHON))
    manifest.write_manifest(os.path.join(directory, _ENV), os.path.join(directory, _MANIFEST))
    return os.path.relpath(os.path.join(root, PYTHON), directory)


def _python_of(built: env_cache.Built) -> str:
    return os.path.join(built.directory, built.note)


def _find_damage(built: env_cache.Built) -> str | None:
    """Why an environment would fail in every run: parts of it, or the interpreter that it was made of, are gone."""
    reason = manifest.find_damage(os.path.join(built.directory, _ENV), os.path.join(built.directory, _MANIFEST))
    return reason or pythons.explain_broken(_python_of(built))


def _find_root(unpacked: str, name: str, env: PythonEnv) -> str:
    """Where in an archive the environment is: at its top, in the directory named like it, or in the only one."""
    entries = sorted(os.listdir(unpacked))
    named = [name] if name in entries else []
    for root in (unpacked, *(os.path.join(unpacked, entry) for entry in named + entries[:1])):
        if os.access(os.path.join(root, PYTHON), os.X_OK):
            return root
    raise ScriptEnvironmentError(
        f"the environment {env} holds no interpreter bin/python, neither at its top nor in a directory {name!r}; at "
        f"its top are {', '.join(map(repr, entries[:10])) or 'no files'}."
    )

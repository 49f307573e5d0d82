"""Runs the checks of programs in `scripts/`, which interpreters without pytest run: their names, and what failed."""

from __future__ import annotations

import ast
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import subprocess
import sys

from tests.running import script
from tests.without_tensorflow import LEAN

# Interpreters to check: paths with ':' between them; by default the one that runs the tests.
PYTHONS = os.environ.get("BEAM_TFSCRIPT_TEST_PYTHONS", sys.executable).split(":")
# The directory that the workers of a test run share, for as long as it goes on.
shared: pathlib.Path | None = None
_ROOT = pathlib.Path(__file__).parent.parent
# Several imports of TensorFlow on a busy machine.
_TIMEOUT_S = 280


def environment_of(python: str) -> str:
    """Return the directory of an interpreter's environment, for `python_env`."""
    return str(pathlib.Path(python).parent.parent)


def name_of(python: str) -> str:
    """Return the name of an interpreter's environment, for the ids of tests."""
    return pathlib.Path(python).parent.parent.name


@functools.cache
def has_estimators(python: str) -> bool:
    """Return True if the interpreter's TensorFlow has Estimators: TensorFlow 2.16 has none any more."""
    code = "import importlib.util; print(importlib.util.find_spec('tensorflow_estimator') is not None)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "True"


def names_of_checks(*programs: str) -> list[str]:
    """The functions `check_…` of some programs."""
    trees = [ast.parse(pathlib.Path(script(program)).read_text("utf-8")) for program in programs]
    functions = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [function.name for function in functions if function.name.startswith("check_")]


@functools.cache
def run_checks(python: str, program: str) -> dict[str, str | None]:
    """Check -> traceback, or None where it passed; once for all of the test run's workers that ask."""
    name = hashlib.sha256(f"{python} {program}".encode()).hexdigest()[:16]
    assert shared is not None
    results = shared / f"checks-{name}.json"
    with open(shared / f"checks-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not results.exists():
            results.write_text(json.dumps(_run_checks(python, program)))
    return json.loads(results.read_text())


def _run_checks(python: str, program: str) -> dict[str, str | None]:
    """All in one process, since importing TensorFlow takes seconds."""
    run = subprocess.run(
        [python, script(program)],
        env={**os.environ, "PYTHONPATH": f"{_ROOT}:{LEAN}", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    results = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"check"')]
    assert run.returncode == 0, run.stderr[-4000:]
    return {result["check"]: result["error"] for result in results}

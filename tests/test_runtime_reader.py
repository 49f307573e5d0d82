"""Reading (and writing) in the script process, on every interpreter that is there.

The checks are in `scripts/runtime_checks.py`, since they run in interpreters that have no pytest. Which interpreters:
those in BEAM_TFSCRIPT_TEST_PYTHONS, paths with ':' between them; by default the one that runs the tests.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = pathlib.Path(__file__).parent / "scripts"
PYTHONS = os.environ.get("BEAM_TFSCRIPT_TEST_PYTHONS", sys.executable).split(":")
CHECKS = [
    node.name
    for name in ("runtime_checks.py", "runtime_write_checks.py")
    for node in ast.parse((SCRIPTS / name).read_text("utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]
# Several imports of TensorFlow on a busy machine.
_TIMEOUT_S = 240


@functools.cache
def run_checks(python: str) -> dict[str, str | None]:
    """Check -> traceback, or None where it passed; all in one process, since importing TensorFlow takes seconds."""
    run = subprocess.run(
        [python, str(SCRIPTS / "runtime_checks.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    results = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"check"')]
    assert run.returncode == 0, run.stderr[-4000:]
    return {result["check"]: result["error"] for result in results}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("check", CHECKS)
def test_runtime_keeps_its_promises(python: str, check: str):
    error = run_checks(python)[check]
    assert error is None, error

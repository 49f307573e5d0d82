"""SavedModels in the script process, on every interpreter that is there.

The checks are in `scripts/saved_model_checks.py`, since they run in interpreters that have no pytest. Which
interpreters: those in BEAM_TFSCRIPT_TEST_PYTHONS, paths with ':' between them; by default the one that runs the tests.
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

from tests.running import script

ROOT = pathlib.Path(__file__).parent.parent
PYTHONS = os.environ.get("BEAM_TFSCRIPT_TEST_PYTHONS", sys.executable).split(":")
PROGRAM = script("saved_model_checks.py")
CHECKS = [
    node.name
    for node in ast.parse(pathlib.Path(PROGRAM).read_text("utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]
# An import of TensorFlow on a busy machine.
_TIMEOUT_S = 120


@functools.cache
def run_checks(python: str) -> dict[str, str | None]:
    """Check -> traceback, or None where it passed; all in one process, since importing TensorFlow takes seconds."""
    run = subprocess.run(
        [python, PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONIOENCODING": "utf-8"},
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
def test_saved_models_are_found_described_and_loaded(python: str, check: str):
    error = run_checks(python)[check]
    assert error is None, error

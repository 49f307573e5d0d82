"""SavedModels in the script process, on every interpreter that is there.

The checks are in `scripts/saved_model_checks.py`, since they run in interpreters that have no pytest. Which
interpreters: those in BEAM_TFSCRIPT_TEST_PYTHONS, paths with ':' between them; by default the one that runs the tests.
"""

from __future__ import annotations

import pytest

from tests.checks import PYTHONS, names_of_checks, run_checks

PROGRAM = "saved_model_checks.py"
CHECKS = names_of_checks(PROGRAM)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("check", CHECKS)
def test_saved_models_are_found_described_and_loaded(python: str, check: str):
    error = run_checks(python, PROGRAM)[check]
    assert error is None, error

"""The modules that scripts for other platforms import, on each interpreter that is there.

The checks are in `scripts/compat_checks.py`, since they run in interpreters that have no pytest.
"""

from __future__ import annotations

import ast

import pytest

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.errors import ArgumentError
from tests.checks import PYTHONS, names_of_checks, run_checks
from tests.running import script

PROGRAM = "compat_checks.py"
CHECKS = names_of_checks(PROGRAM)
OUTPUT = "whose string, loaded bigint, params string"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("check", CHECKS)
def test_names_do_what_scripts_count_on(python: str, check: str):
    error = run_checks(python, PROGRAM)[check]
    assert error is None, error


def test_a_scripts_own_module_of_that_name_is_the_one_that_counts(in_memory, tmp_path):
    (tmp_path / "akdl").mkdir()
    (tmp_path / "akdl" / "__init__.py").write_text("WHOSE = 'mine'\n")
    own = RunTFScript(script("compat_own_akdl.py"), OUTPUT, user_files=[str(tmp_path / "akdl")])
    assert in_memory.run(own) == [{"whose": "mine", "loaded": 0, "params": "{}"}]


def test_params_are_strings_where_that_is_asked_for(in_memory):
    params = {"a": 1, "b": 0.5, "c": True, "d": "text", "e": ["ä"], "f": None}
    transform = RunTFScript(script("compat_own_akdl.py"), OUTPUT, user_params=params, compat_params="strings")
    (row,) = in_memory.run(transform)
    assert row["whose"] == "the runtime's"
    assert ast.literal_eval(row["params"]) == {
        "a": "1", "b": "0.5", "c": "true", "d": "text", "e": '["ä"]', "f": None
    }  # fmt: skip


@pytest.mark.parametrize("transform", [RunTFScript, TrainTFScript])
def test_rejects_other_values_of_compat_params(transform):
    with pytest.raises(ArgumentError, match='compat_params must be "strings" or None, got True'):
        transform(script("compat_own_akdl.py"), None, compat_params=True)
    with pytest.raises(ArgumentError, match="user_params that are a dict"):
        transform(script("compat_own_akdl.py"), None, user_params=[1], compat_params="strings")

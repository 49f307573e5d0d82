"""Targets of the Makefile and of CI: together they run every test."""

from __future__ import annotations

import ast
import itertools
import pathlib
import re
import shlex
import subprocess

import pytest
from _pytest.mark.expression import Expression

from tests import conftest, interpreters

ROOT = pathlib.Path(__file__).parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def option(name):
    """Return a value of pytest's section in pyproject.toml; its strings and lists are Python's too."""
    return ast.literal_eval(re.search(rf"^{name} = (\".*?\"$|\[.*?\]$)", PYPROJECT, re.MULTILINE | re.DOTALL)[1])


# Marks that say how a test is run, not by which target.
EVERYWHERE = {"cold", "slow", "job_server", "tensorflow"}
TARGETS = ("test", "test-heavy", "test-large", "test-gpu")
# CI has no GPU.
BY_HAND = {"test-cluster-scale", "test-gpu"}
MARKS = {line.split(":")[0] for line in option("markers")} - EVERYWHERE


def commands(target):
    """Return the lines that make runs for a target, without those of its set-up."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.replace("\\\n", " ").splitlines() if "-m pytest" in line]


def marks_of(command):
    """Return the mark expression of a pytest command: its own, else that of pyproject.toml."""
    words = shlex.split(command.split("-m pytest", 1)[1])
    words = words if "-m" in words else shlex.split(option("addopts"))
    return Expression.compile(words[words.index("-m") + 1])


def test_each_combination_of_marks_is_run_by_a_target():
    selected = [marks_of(command) for target in TARGETS for command in commands(target)]
    assert len(MARKS) == 7 and len(selected) == 4
    for number in range(len(MARKS) + 1):
        for marks in itertools.combinations(sorted(MARKS), number):
            assert any(marker.evaluate(lambda name, marks=marks: name in marks) for marker in selected), marks


def test_a_test_has_one_target():
    expressions = {target: marks_of(commands(target)[0]) for target in TARGETS}
    for mark in [None, *MARKS]:
        found = [
            target for target, marker in expressions.items() if marker.evaluate(lambda name, mark=mark: name == mark)
        ]
        expected = {None: "test", "large": "test-large", "gpu": "test-gpu"}.get(mark, "test-heavy")
        assert found == [expected], mark


def test_files_of_one_engine_are_named_by_its_target():
    for name, engine in conftest.ONE_ENGINE.items():
        targets = [f"test-{engine}"] + ["test-cluster-scale"] * (engine == "cluster")
        (command,) = [command for target in targets for command in commands(target) if f"tests/{name}" in command]
        assert f"BEAM_TFSCRIPT_TEST_ENGINES={engine} " in command


def test_each_file_with_tests_is_collected():
    assert option("testpaths") == ["tests"]
    for path in (ROOT / "tests").rglob("*.py"):
        if path.parent.name == "scripts":
            continue
        tree = ast.parse(path.read_text())
        has_tests = any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in tree.body)
        folder = path.relative_to(ROOT / "tests").parent.name
        # `make test-install` copies all of tests/installed; its own functions only have such names.
        if has_tests and path.name != "install.py":
            assert path.name.startswith("test_") and folder in ("", "installed"), path
    assert conftest.collect_ignore == ["installed"] + [
        name for name, engine in conftest.ONE_ENGINE.items() if engine not in conftest.TESTED
    ]


def test_no_test_file_imports_tensorflow_at_its_top():
    """Each worker of pytest imports every test file, and TensorFlow's import takes 5 s."""
    for path in (ROOT / "tests").glob("*.py"):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = {getattr(node, "module", None) or node.names[0].name for node in top}
        assert not any(module.split(".")[0] == "tensorflow" for module in modules), path


def test_ci_runs_each_target():
    targets = set(re.findall(r"^(test[\w-]*)(?=[ :])", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets = (targets | {"test-prism", "test-flink", "test-spark"}) - BY_HAND
    words = set(re.findall(r"\btest[\w-]*", (ROOT / ".ci" / "run").read_text()))
    assert {"test", "test-heavy", "test-envs", "test-cluster"} < targets <= words


@pytest.mark.parametrize(
    "files", [interpreters.TESTS, *interpreters.CONFORMANCE.values(), *interpreters.OLDEST.values()]
)
def test_files_of_the_other_interpreters_are_there(files):
    names = [name.split("::")[0] for name in files if name.startswith("tests/")]
    assert names and all((ROOT / name).exists() for name in names)

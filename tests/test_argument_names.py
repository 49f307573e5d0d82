"""Misspelt keyword arguments of the transforms: the error, and the plain signature that type checkers still see."""

from __future__ import annotations

import inspect
import pathlib
import pickle
import subprocess
import sys

import pytest

import beam_tfscript
from beam_tfscript import ModelRowsToSavedModel, RunTFScript, TFScriptError, TrainTFScript


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: RunTFScript(path, num_wrkers=2), "RunTFScript has no argument 'num_wrkers'. Is it num_workers"),
        (lambda path: RunTFScript(path, Output_Schema="x float"), "'Output_Schema'. Is it output_schema"),
        (lambda path: RunTFScript(path, qqq=1, feeed="stream"), "'qqq'. Its arguments are main_script_file, output_"),
        (lambda path: RunTFScript(path, qqq=1, feeed="stream"), "'feeed'. Is it feed"),
        (
            lambda path: TrainTFScript(path, None, max_attemps=2),
            "TrainTFScript has no argument 'max_attemps'. Is it",
        ),
        (
            lambda path: ModelRowsToSavedModel(modeldir=path),
            "ModelRowsToSavedModel has no argument 'modeldir'.",
        ),
    ],
)
def test_misspelt_argument_is_an_error_with_the_nearest_names(tmp_path, make, message):
    (tmp_path / "score.py").write_text("def main(config): pass\n")
    for kind in (TypeError, ValueError, TFScriptError):
        with pytest.raises(kind) as caught:
            make(str(tmp_path / "score.py"))
        assert message in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_argument_that_is_missing_or_given_twice_is_an_error_of_python(tmp_path):
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'main_script_file'"):
        RunTFScript()
    with pytest.raises(TypeError, match="multiple values for argument 'main_script_file'"):
        RunTFScript("score.py", main_script_file="score.py")


@pytest.mark.parametrize("transform", [RunTFScript, TrainTFScript])
def test_signature_is_the_plain_one(transform):
    parameters = inspect.signature(transform).parameters
    assert list(parameters)[0] == "main_script_file" and parameters["log_level"].default == "INFO"


def test_type_checker_sees_the_signature(tmp_path):
    (tmp_path / "use.py").write_text(
        "from beam_tfscript.transforms.run_tf_script import RunTFScript\n"
        "RunTFScript('score.py', num_workers=2)\n"
        "RunTFScript('score.py', num_wrkers=2)\n"
        "RunTFScript('score.py', num_workers='two')\n"
        "reveal_type(RunTFScript('score.py'))\n"
    )
    pytest.importorskip("mypy")
    # Only these files are read: all of Beam would take half a minute.
    package = pathlib.Path(beam_tfscript.__file__).parent
    files = [
        str(package / "transforms" / "run_tf_script.py"),
        str(package / "options" / "argument_names.py"),
        str(tmp_path / "use.py"),
    ]
    command = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=skip", f"--cache-dir={tmp_path}"]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    found = [line.partition("use.py:")[2] for line in done.stdout.splitlines() if "use.py:" in line]
    lines = {line.partition(":")[0]: line for line in found if "error" in line or "Revealed" in line}
    assert set(lines) == {"3", "4", "5"}, done.stdout
    assert "num_wrkers" in lines["3"] and "num_workers" in lines["4"] and "run_tf_script.RunTFScript" in lines["5"]

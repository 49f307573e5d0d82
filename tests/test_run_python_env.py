"""RunTFScript with an environment of its own: the script runs there, and errors have the tool's own words."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import sysconfig

import apache_beam as beam
import pytest
from apache_beam.transforms.display import DisplayData

from beam_tfscript import RunTFScript
from beam_tfscript.errors import ArgumentError
from beam_tfscript.python_env import environment
from tests.checks import PYTHONS, environment_of
from tests.environments import pack_python, pack_wrapper, write_wheel
from tests.interpreters import find_python
from tests.running import script

pytestmark = pytest.mark.tensorflow

SCHEMA = "python string, prefix string, tensorflow string, tiny string, rows bigint"
ROWS = [{"x": float(i)} for i in range(200)]
OWN = sysconfig.get_python_version()
# Where this interpreter has TensorFlow: the environments of these tests borrow it, as it takes minutes to install.
SITE = sysconfig.get_path("purelib")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Cache for all tests of this file, so that an environment is unpacked once."""
    return tmp_path_factory.mktemp("environments") / "cache"


@pytest.fixture(autouse=True)
def use_cache(cache, monkeypatch):
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE", str(cache))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """An archive that holds an interpreter."""
    return pack_python(tmp_path_factory.mktemp("packed") / "my-env.tar.gz", folder="my-env", site=SITE)


def which_python(**arguments):
    return RunTFScript(script("which_python.py"), SCHEMA, input_schema="x float", **arguments)


def failure_of(in_memory, transform):
    with pytest.raises(Exception) as failed:
        in_memory.run(transform, ROWS)
    return str(failed.value)


@pytest.mark.parametrize("python", PYTHONS)
def test_script_runs_in_a_directorys_interpreter(in_memory, python):
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    version, prefix = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    (row,) = in_memory.run(which_python(python_env=environment_of(python)), ROWS)
    assert (row["python"], row["prefix"], row["rows"]) == (version, prefix, len(ROWS))
    assert row["tensorflow"]


@pytest.mark.builds
def test_script_runs_in_an_archives_interpreter(in_memory, packed, cache):
    rows = in_memory.run(which_python(python_env=packed, num_workers=2), ROWS)
    assert sum(row["rows"] for row in rows) == len(ROWS)
    assert all(row["prefix"].startswith(str(cache)) and row["prefix"].endswith("/my-env") for row in rows)


@pytest.mark.builds
def test_script_runs_with_the_requirements_it_was_given(in_memory, tmp_path, cache):
    lines = ["--no-index", write_wheel(tmp_path / "wheels", "tiny"), "tiny==1.0"]
    transform = which_python(requirements=lines, python_version=OWN, env={"PYTHONPATH": SITE})
    (row,) = in_memory.run(transform, ROWS)
    assert (row["tiny"], row["python"], row["rows"]) == ("1.0", OWN, len(ROWS))
    assert row["prefix"].startswith(f"{cache}/requirements-")


@pytest.mark.builds
def test_an_environment_that_was_partly_cleaned_away_is_put_right(in_memory, packed, cache, monkeypatch):
    def find(env=None):
        environment._found.clear()  # each pipeline has a worker process of its own
        return environment.find_interpreter(env)

    monkeypatch.setattr("beam_tfscript.dofns.script_dofns.find_interpreter", find)
    (before,) = in_memory.run(which_python(python_env=packed), ROWS)
    pathlib.Path(before["prefix"], "lib", f"python{OWN}", "socket.py").unlink()
    (after,) = in_memory.run(which_python(python_env=packed), ROWS)
    assert after["rows"] == len(ROWS) and after["prefix"].startswith(str(cache))


@pytest.mark.builds
def test_two_transforms_have_each_their_own(in_memory, packed):
    class Both(beam.PTransform):
        def expand(self, rows):
            found = [rows | "Own" >> which_python(), rows | "Packed" >> which_python(python_env=packed)]
            return found | beam.Flatten()

    prefixes = {row["prefix"] for row in in_memory.run(Both(), ROWS)}
    assert len(prefixes) == 2 and sys.prefix in prefixes


def test_an_archive_that_went_away_fails_with_its_name(in_memory, tmp_path):
    transform = which_python(python_env=pack_wrapper(tmp_path / "gone.tar.gz", {"more": "only here"}))
    (tmp_path / "gone.tar.gz").unlink()
    text = failure_of(in_memory, transform)
    assert "gone.tar.gz is an archive of an environment" in text and "when the pipeline was built" in text


def test_an_interpreter_that_is_too_old_names_both_sides(in_memory):
    old = find_python("2.7")
    if old is None:
        pytest.skip("no Python 2.7 on this machine")
    text = failure_of(in_memory, which_python(python_env=environment_of(old)))
    assert "is Python 2.7" in text and "3.6 or newer" in text and f"is Python {OWN}" in text


def test_an_environment_without_tensorflow_says_so(in_memory, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    text = failure_of(in_memory, which_python(python_env=str(tmp_path / "bare")))
    assert "No module named 'tensorflow'" in text


@pytest.mark.builds
def test_a_failed_build_shows_the_tools_words_without_secrets(in_memory, monkeypatch, caplog):
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    lines = ["--no-index", "https://me:${MY_PASSWORD}@127.0.0.1:9/tiny-1.0-py3-none-any.whl"]
    text = failure_of(in_memory, which_python(requirements=lines))
    assert "cannot be built" in text and "127.0.0.1" in text and "hunter2" not in text + caplog.text


def test_the_environment_is_shown_with_the_transform():
    transform = which_python(requirements=["tiny @ https://me:${MY_PASSWORD}@host/tiny-1.0-py3-none-any.whl"])
    items = {item.key: item.value for item in DisplayData.create_from(transform).items}
    assert items["python_env"] == "Python of the worker with tiny @ https://***@host/tiny-1.0-py3-none-any.whl"


def test_rejects_two_environments_while_the_pipeline_is_built(packed):
    with pytest.raises(ArgumentError, match="give only one of them"):
        which_python(python_env=packed, requirements=["six"])

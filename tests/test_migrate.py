"""docs/migrate.md: its scripts run and give the right rows, its names exist, and few lines have to be changed."""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.cli.main import main
from tests.cli_files import write_rows
from tests.running import SCRIPTS, script

pytestmark = pytest.mark.tensorflow

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "migrate.md").read_text("utf-8")
NAMES = ("alink", "tensorflowonspark", "run_inference", "plain")
# In the page's order: (before, after) of each table row.
BLOCKS = re.findall(r"```python\n(.*?)```\n\n</td><td>\n\n```python\n(.*?)```", PAGE, re.DOTALL)
TRAINING = """
import tensorflow as tf
def main(config):
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    config.report(rows=config.dataset_length)
    tf.saved_model.save(module, config.saved_model_dir, signatures=module.serve)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Train a model that doubles, by the command line as a person types it."""
    directory = tmp_path_factory.mktemp("model")
    (directory / "double.py").write_text(TRAINING)
    command = [sys.executable, "-m", "beam_tfscript", "run", str(directory / "double.py"), "--train"]
    done = subprocess.run(
        [*command, "--input", write_rows(directory / "rows.csv"), "--model-dir", str(directory / "line"),
         "--output", str(directory / "told"), "--runner=FnApiRunner"],
        cwd=SCRIPTS.parent.parent, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (version,) = (directory / "line").glob("[0-9]*")
    assert f"Model: {version}\n" in done.stdout
    (told,) = directory.glob("told*.jsonl")
    assert '"rows\\": 30.0' in told.read_text()
    return str(version)


@pytest.mark.parametrize("name", NAMES)
def test_script_runs_and_gives_the_right_rows(model, tmp_path, capsys, name):
    status = main(
        ["check", script(f"migrate_{name}.py"), "--data", write_rows(tmp_path / "rows.tfrecord"),
         "--output-schema", "id string, y float", f'--user-params={{"model": "{model}"}}', "--compat-params=strings"]
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "Rows written: 20\n  id  y\n  r0  0\n  r1  1\n  r2  2\n  r3  3\n" in out


@pytest.mark.parametrize(("name", "number"), list(zip(NAMES, (1, 3, 5, 6))))
def test_page_shows_the_scripts_as_they_are(name, number):
    source = (SCRIPTS / f"migrate_{name}.py").read_text("utf-8")
    assert BLOCKS[number][1] == source.partition('"""\n\n')[2]


@pytest.mark.parametrize(("before", "after"), BLOCKS)
def test_at_most_five_lines_are_to_be_written(before, after):
    known = set(map(str.strip, before.splitlines()))
    assert len([line for line in after.splitlines() if line.strip() not in known]) <= 5


@pytest.mark.parametrize("code", [after for _, after in BLOCKS if "RunTFScript" in after])
def test_calls_name_arguments_that_exist(code):
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if getattr(node.func, "id", "") == "RunTFScript"]
    RunTFScript(script("migrate_plain.py"), **{
        keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords
    })  # fmt: skip


def test_table_names_arguments_that_exist():
    table = PAGE.partition("Alink's parameters, and the arguments that replace them")[2].partition("##")[0]
    rows = re.findall(r"^\| `(\w+)[^`]*` \| `(\w+)` \|", table, re.MULTILINE)
    arguments = {*inspect.signature(RunTFScript).parameters, TrainTFScript.__name__}
    assert len(rows) >= 9 and not {here for _, here in rows} - arguments

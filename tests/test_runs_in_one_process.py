"""Runs of one process that use TensorFlow in different modes: each finds it as a new interpreter would give it.

On every interpreter there is: those in BEAM_TFSCRIPT_TEST_PYTHONS, paths with ':' between them; by default the one that
runs the tests.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import RunTFScript
from tests.checks import PYTHONS, environment_of, has_estimators, name_of
from tests.running import SCRIPTS, script

# Each first run needs a process that has had none.
pytestmark = [pytest.mark.cold, pytest.mark.tensorflow]

SCHEMA = "id string, run int, mode string, pid bigint, found string, context boolean, outside boolean"
# Graph and eager mode, each first, again, and after the other.
FROM_GRAPH = ["session", "session", "session", "graph", "graph", "eager", "eager", "graph", "v1", "v2", "session", "v1"]
FROM_EAGER = ["v2", "eager", "graph", "v2", "v1", "eager", "eager", "v1"]


def modes_script(python, tmp_path, feed, modes, **arguments):
    params = {"modes": modes, "marks": str(tmp_path / "marks"), **arguments.pop("user_params", {})}
    return RunTFScript(
        script("modes.py"), SCHEMA, input_schema="id string not null", feed=feed, user_params=params,
        python_env=environment_of(python), max_processes=1, **arguments,
    )  # fmt: skip


@functools.cache
def new_interpreter(python: str) -> dict:
    """State of TensorFlow in a script that is started by hand, and after the script has left eager mode."""
    code = """
import json, modes
new = {"found": modes.state(), "context": modes.has_context()}
modes.enter("graph")
new["outside"] = modes.is_eager_outside(modes.tf.data.Dataset.range(1))
print(json.dumps(new))
"""
    variables = {**os.environ, "PYTHONPATH": str(SCRIPTS), "TF_CPP_MIN_LOG_LEVEL": "3"}
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=variables)
    return json.loads(shown.stdout)


def in_windows(rows):
    """A window for every four rows."""
    stamped = rows | beam.Map(lambda row: TimestampedValue(row, int(row["id"])))
    return stamped | beam.WindowInto(FixedWindows(4))


@pytest.mark.parametrize(
    ("feed", "modes"),
    [("dataset", FROM_GRAPH), ("stream", FROM_GRAPH), ("stream", FROM_EAGER)],
    ids=["dataset, graph first", "stream, graph first", "stream, eager first"],
)
@pytest.mark.parametrize("python", PYTHONS, ids=name_of)
def test_each_run_of_a_process_finds_tensorflow_as_it_was(in_memory, tmp_path, python, feed, modes):
    rows = [{"id": str(number)} for number in range(4 * len(modes))]
    got = in_memory.run(modes_script(python, tmp_path, feed, modes, max_attempts=1), rows, before=in_windows)
    assert sorted(int(row["id"]) for row in got) == list(range(len(rows)))
    assert len({row["pid"] for row in got}) == 1
    assert {(row["run"], row["mode"]) for row in got} == set(enumerate(modes))
    new = new_interpreter(python)
    assert {row["found"] for row in got} == {new["found"]}
    # An eager context that has been in use stays: also what reads the file of the dataset feed has used it.
    unused = [run for run in range(len(modes)) if set(modes[:run]) <= ({"session"} if feed == "stream" else set())]
    assert {row["context"] for row in got if row["run"] in unused} == {new["context"]}
    assert {row["outside"] for row in got if row["mode"] in ("eager", "v2")} == {True}
    assert {row["outside"] for row in got if row["mode"] in ("graph", "v1")} <= {False, new["outside"]}


@pytest.mark.parametrize("python", PYTHONS, ids=name_of)
def test_run_that_follows_a_failed_one_in_the_bundles_feed_reads_in_its_own_mode(in_memory, tmp_path, python):
    transform = modes_script(python, tmp_path, "bundles", ["v1", "eager"], user_params={"raises": 0}, max_attempts=2)
    got = in_memory.run(transform, [{"id": str(number)} for number in range(8)])
    assert sorted(int(row["id"]) for row in got) == list(range(8))
    assert {(row["run"], row["mode"]) for row in got} == {(1, "eager")}
    # A process of this feed serves one run.
    assert in_memory.metrics["process_starts"] == in_memory.metrics["runs"] == 2


LEAVES_EAGER_MODE = """
import os
import tensorflow as tf
from akdl.engine.run_config import generate_run_config

def main(config):
    for batch in config.batches(8):
        for name in batch["id"]:
            config.write(id=name, pid=os.getpid(), eager=tf.executing_eagerly())
"""


@pytest.mark.parametrize("python", PYTHONS, ids=name_of)
def test_module_that_leaves_eager_mode_when_it_is_imported_does_so_in_each_run(in_memory, tmp_path, python):
    (tmp_path / "leaves.py").write_text(LEAVES_EAGER_MODE)
    transform = RunTFScript(
        str(tmp_path / "leaves.py"), "id string, pid bigint, eager boolean", input_schema="id string not null",
        python_env=environment_of(python), max_processes=1, max_attempts=1,
    )  # fmt: skip
    rows = [{"id": str(number)} for number in range(12)]
    if not has_estimators(python):
        with pytest.raises(Exception, match="has no Estimators"):
            in_memory.run(transform, rows, before=in_windows)
        return
    got = in_memory.run(transform, rows, before=in_windows)
    assert len(got) == 12 and len({row["pid"] for row in got}) == 1
    assert {row["eager"] for row in got} == {False}

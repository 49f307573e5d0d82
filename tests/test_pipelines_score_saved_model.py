"""Scoring with other people's SavedModels: by signature, by columns or by Examples, and with a newer version."""

from __future__ import annotations

import ast
import logging
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.errors import ScriptRaised
from tests.running import SCRIPTS, script

pytestmark = pytest.mark.tensorflow

SCORE = str(pathlib.Path(__file__).parent.parent / "pipelines" / "scripts" / "score_saved_model.py")
ROWS = [{"id": "a", "x": 1.0}, {"id": "b", "x": 2.0}, {"id": "c", "x": 5.0}]
ANSWERS = {"a": 2.5, "b": 3.0, "c": 4.5}
_TIMEOUT_S = 120

MAKE_OTHERS = """
import os, sys
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
from saved_models import save_graph, v1

def save(name, inputs, outputs):
    info = v1.saved_model.build_tensor_info
    signature = v1.saved_model.build_signature_def(
        {key: info(value) for key, value in inputs.items()}, {key: info(value) for key, value in outputs.items()}, "m")
    save_graph(os.path.join(sys.argv[2], name), {"serving_default": signature})

with tf.Graph().as_default():
    zero = v1.get_variable("zero", initializer=0.0)
    image, small = v1.placeholder(tf.float32, [None, 2, 2, 1]), v1.placeholder(tf.int32, [None])
    text, whole = v1.placeholder(tf.string, [None, 1]), v1.placeholder(tf.float32, [None, 3])
    total = tf.reduce_sum(image, [1, 2, 3]) + zero
    save("two_inputs", {"image": image, "small": small},
         {"total": total + tf.cast(small, tf.float32), "doubled": 2 * small})
    save("text", {"keras_tensor": text}, {"length": tf.strings.length(text)})
    save("array", {"a": whole}, {"total": tf.reduce_sum(whole, 1) + zero})
    save("one_answer", {"a": whole}, {"total": tf.reduce_sum(whole) + zero})
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> pathlib.Path:
    """Make directories with SavedModels."""
    directory = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, script("saved_models.py"), str(directory / "half")], check=True, timeout=_TIMEOUT_S)
    command = [sys.executable, "-c", MAKE_OTHERS, str(SCRIPTS), str(directory)]
    subprocess.run(command, check=True, timeout=_TIMEOUT_S)
    return directory


def score(model: pathlib.Path | str, output_schema: str = "id string, y float", **arguments) -> RunTFScript:
    """Return the transform, as a user would write it."""
    params = {"model_dir": str(model), **arguments.pop("params", {})}
    arguments = {"input_schema": "id string, x float", **arguments}
    return RunTFScript(SCORE, output_schema, user_params=params, **arguments)


@pytest.mark.parametrize("signature", ["regress", "classify", "predict", "serving_default"])
def test_half_plus_two_answers_as_in_tensorflow_serving(in_memory, models, signature):
    outputs = {"regress": "outputs", "classify": "scores"}.get(signature, "y")
    rows = in_memory.run(score(models / "half", params={"signature": signature, "batch_size": 2}), ROWS)
    assert {row["id"]: row["y"] for row in rows} == ANSWERS
    # By the output's own name.
    (row,) = in_memory.run(score(models / "half", f"{outputs} float", params={"signature": signature}), ROWS[:1])
    assert row == {outputs: 2.5}


def test_examples_are_scored_without_a_schema(in_memory, models):
    import tensorflow as tf

    def example(x):
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
        return tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()

    transform = score(models / "half", "outputs float", input_schema=None, params={"signature": "regress"})
    rows = in_memory.run(transform, [example(row["x"]) for row in ROWS])
    assert sorted(row["outputs"] for row in rows) == sorted(ANSWERS.values())


def test_columns_are_cast_and_shaped_as_the_inputs_are(in_memory, models):
    transform = score(
        models / "two_inputs",
        "small bigint, total double, twice int",
        input_schema="small bigint, pixels tensor<double>(2, 2)",
        params={"inputs": {"image": "pixels"}, "outputs": {"twice": "doubled"}},
    )
    rows = [{"small": n, "pixels": [[n, 1.0], [2.0, 3.0]]} for n in (1, 2)]
    got = sorted(in_memory.run(transform, rows), key=lambda row: row["small"])
    assert got == [{"small": 1, "total": 8.0, "twice": 2}, {"small": 2, "total": 10.0, "twice": 4}]


def test_a_text_model_takes_a_column_and_not_examples(in_memory, models):
    transform = score(models / "text", "id string, n int", input_schema="id string, text string")
    rows = in_memory.run(transform, [{"id": "a", "text": "four"}, {"id": "b", "text": ""}])
    assert {row["id"]: row["n"] for row in rows} == {"a": 4, "b": 0}


def test_arrays_of_one_length_are_scored_and_others_are_errors(in_memory, models):
    def transform():
        return score(models / "array", "id string, total float", input_schema="id string, a array<float>")

    rows = in_memory.run(transform(), [{"id": "a", "a": [1.0, 2.0, 3.0]}])
    assert rows == [{"id": "a", "total": 6.0}]
    with pytest.raises(Exception, match=r'input "a" of the model takes rows of one length, and there are \[2, 3\]'):
        in_memory.run(transform(), [{"id": "a", "a": [1.0, 2.0, 3.0]}, {"id": "b", "a": [1.0, 2.0]}])


class Config:
    """Return the part of a run's config that an error needs, without a run."""

    def __init__(self, params, columns, output):
        self.user_params = params
        self.input_schema = SimpleNamespace(names=list(columns))
        self.output_schema = None if output is None else SimpleNamespace(names=output.split())
        self._columns = columns

    def batches(self, n):
        yield self._columns

    def write_batch(self, **columns):
        raise AssertionError("the rows were scored")


ID_X = {"id": np.array([b"a"], object), "x": np.array([1.0], np.float32)}
IMAGE = np.ones([1, 2, 2], np.float32)


@pytest.mark.parametrize(
    ("model", "params", "columns", "output", "message"),
    [
        ("half", {"signature": "nonesuch"}, ID_X, "id y", "has no signature 'nonesuch'; it has classify, predict, reg"),
        ("half", {"batchsize": 1}, ID_X, "id y", "may have batch_size, inputs, .* got batchsize, model_dir"),
        ("nonesuch", {}, ID_X, "id y", "nonesuch cannot be listed"),
        (".", {}, ID_X, "id y", "neither a SavedModel nor numbered versions"),
        ("half", {}, ID_X, None, "give the transform an output_schema"),
        ("half", {}, ID_X, "id y z", "outputs: .*no match for z. Name the matches"),
        ("half", {}, {"id": 0, "v": 0, "w": 0}, "id y", 'inputs: x cannot .*user_params."inputs"'),
        ("half", {"inputs": {"x": "v"}}, ID_X, "id y", "there is no match for v"),
        ("half", {"outputs": {"v": "y"}}, ID_X, "id y", "there is no match for v"),
        ("two_inputs", {}, {"small": np.array([1]), "image": IMAGE[0]}, "total", r"takes \[2, 2, 1\] per row,.*\(2,\)"),
        ("two_inputs", {}, {"small": np.array([1.0]), "image": IMAGE}, "total", "is int32, and a column of float64"),
        ("two_inputs", {}, {"small": np.array([2**40]), "image": IMAGE}, "total", "is int32, and a column of int64"),
        ("one_answer", {}, {"a": np.ones([1, 3])}, "total", r'output "total" .* has shape \(\) for 1 rows'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_does_not_fit_is_said(models, model, params, columns, output, message):
    from pipelines.scripts import score_saved_model

    with pytest.raises(ValueError, match=message):
        score_saved_model.main(Config({"model_dir": str(models / model), **params}, columns, output))


def test_an_error_of_the_script_names_what_is_wrong(in_memory, models):
    with pytest.raises(ScriptRaised, match="has no signature 'nonesuch'"):
        in_memory.run(score(models / "half", params={"signature": "nonesuch"}), ROWS)


def test_script_is_python_3_6():
    ast.parse(pathlib.Path(SCORE).read_text("utf-8"), feature_version=(3, 6))


def test_the_newest_of_numbered_versions_is_taken(in_memory, models, tmp_path):
    import shutil

    for version in ("9", "10"):
        shutil.copytree(models / "half", tmp_path / "versions" / version)
    (tmp_path / "versions" / "9" / "saved_model.pb").write_bytes(b"\xff\xff")
    rows = in_memory.run(score(tmp_path / "versions"), ROWS)
    assert {row["id"]: row["y"] for row in rows} == ANSWERS


@pytest.mark.parametrize("publish", ["a good one", "a damaged one", "nothing yet"])
def test_a_long_run_moves_to_a_newer_version_between_batches_and_says_so(in_memory, models, tmp_path, caplog, publish):
    import shutil

    caplog.set_level(logging.INFO)
    store = tmp_path / "store"
    shutil.copytree(models / "half", store / "1")
    params = {"model_dir": str(store), "signature": "regress", "batch_size": 2, "look_every_s": 0, "publish": publish}
    transform = RunTFScript(
        script("score_two_versions.py"), "x float, y float", input_schema="x float", user_params=params,
        user_files=[SCORE, script("saved_models.py")],
    )  # fmt: skip
    rows = in_memory.run(transform, [{"x": float(n)} for n in range(6)])
    old, new = [0.5 * n + 2 for n in range(6)], [10.0 * n + 2 for n in range(6)]
    got = [row["y"] for row in sorted(rows, key=lambda row: row["x"])]
    if publish == "a good one":
        moved = [first != second for first, second in zip(got, old)]
        assert sum(moved) >= 3 and all(value in pair for value, pair in zip(got, zip(old, new)))
        assert f"moves from version 1 to 2 of {store}" in caplog.text
    else:
        assert got == old and "moves from version" not in caplog.text
        assert (f"stays with version 1 of {store}: the SavedModel in" in caplog.text) == (publish == "a damaged one")

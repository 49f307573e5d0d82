"""Scripts in the style of other platforms run as they are, and their models can be used, on every interpreter there is.

Which interpreters: those in BEAM_TFSCRIPT_TEST_PYTHONS, paths with ':' between them; by default the one that runs the
tests. Where TensorFlow has no Estimators any more, the scripts that need them fail with what to do about it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

from beam_tfscript import RunTFScript, TrainTFScript
from tests.checks import PYTHONS, environment_of, has_estimators
from tests.model_rows import rows_to_model
from tests.running import script

pytestmark = pytest.mark.tensorflow

SCHEMA = "id bigint not null, x0 float not null, x1 float not null, label bigint not null"
MODEL_ROWS = "model_id bigint, model_info string"
# Such scripts read text: booleans, numbers and lists become JSON text.
PARAMS = {"feature_cols": ["x0", "x1"], "label_col": "label", "batch_size": 32, "num_epochs": 15}


def make_rows(count: int, seed: int) -> list[dict]:
    """Return points of two classes, with a gap between them."""
    chance = random.Random(seed)
    rows = []
    while len(rows) < count:
        x0, x1 = chance.uniform(-1, 1), chance.uniform(-1, 1)
        if abs(x0 + x1) > 0.2:
            rows.append({"id": len(rows), "x0": x0, "x1": x1, "label": int(x0 + x1 > 0)})
    return rows


ROWS = make_rows(320, seed=1)
UNSEEN = make_rows(40, seed=2)


def assert_scores(python: str, model: str) -> None:
    """Check that the model, loaded in a new interpreter, knows the class of rows that it was not trained on."""
    run = subprocess.run(
        [python, script("compat_score.py"), model, json.dumps(UNSEEN)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    scores = json.loads(run.stdout)
    right = sum((score > 0.5) == (row["label"] == 1) for score, row in zip(scores, UNSEEN))
    assert len(scores) == len(UNSEEN) and right >= 0.95 * len(UNSEEN), (right, scores)


def run_or_refuse(python: str, in_memory, transform) -> list[dict]:
    """Return the output rows; without Estimators, check the error, and return no rows."""
    if has_estimators(python):
        return in_memory.run(transform, ROWS)
    with pytest.raises(Exception, match="has no Estimators; 2.15 is the last release") as failed:
        in_memory.run(transform, ROWS)
    assert "python_env" in str(failed.value)
    return []


def check_published(program: str, params: dict, python: str, in_memory, tmp_path) -> None:
    """Check that the script's Estimator is trained and published, and scores right."""
    transform = TrainTFScript(
        script(program),
        str(tmp_path / "models"),
        user_params=params,
        compat_params="strings",
        input_schema=SCHEMA,
        python_env=environment_of(python),
        max_attempts=1,
    )
    for model in run_or_refuse(python, in_memory, transform):
        assert_scores(python, model["uri"])


@pytest.mark.parametrize("python", PYTHONS)
def test_estimator_of_a_train_script_is_published(python, in_memory, tmp_path):
    check_published("compat_akdl_train.py", PARAMS, python, in_memory, tmp_path)


@pytest.mark.parametrize(("python", "exporter"), [(python, "best") for python in PYTHONS] + [(PYTHONS[0], "latest")])
def test_estimator_of_one_worker_is_evaluated_stopped_and_exported(python, exporter, in_memory, tmp_path):
    params = {**PARAMS, "exporter_type": exporter}
    check_published("compat_akdl_best.py", params, python, in_memory, tmp_path)


@pytest.mark.parametrize("python", PYTHONS)
def test_estimator_of_a_batch_script_comes_out_as_rows(python, in_memory, tmp_path):
    transform = RunTFScript(
        script("compat_akdl_batch.py"),
        MODEL_ROWS,
        user_files=[script("compat_akdl_train.py")],
        user_params=PARAMS,
        compat_params="strings",
        input_schema=SCHEMA,
        python_env=environment_of(python),
    )
    rows = run_or_refuse(python, in_memory, transform)
    if rows:
        rows_to_model([(row["model_id"], row["model_info"]) for row in rows], str(tmp_path / "model"))
        assert_scores(python, str(tmp_path / "model"))


@pytest.mark.parametrize("python", PYTHONS)
def test_estimator_of_a_stream_script_trains_on_rows_as_they_come(python, in_memory, tmp_path):
    transform = RunTFScript(
        script("compat_akdl_stream.py"),
        MODEL_ROWS,
        user_params={**PARAMS, "batch_size": "2", "num_epochs": "1"},
        compat_params="strings",
        input_schema=SCHEMA,
        python_env=environment_of(python),
        feed="stream",
        max_attempts=1,
    )
    rows = run_or_refuse(python, in_memory, transform)
    if rows:
        rows_to_model([(row["model_id"], row["model_info"]) for row in rows], str(tmp_path / "model"))
        assert_scores(python, str(tmp_path / "model"))


@pytest.mark.trainings
@pytest.mark.parametrize("python", PYTHONS)
def test_parameter_server_script_reads_trains_and_writes(python, in_memory, tmp_path):
    transform = RunTFScript(
        script("compat_flink_ps.py"),
        "id bigint, score float",
        entry="map_func",
        num_workers=1,
        num_ps=1,
        user_params={"model_dir": str(tmp_path / "model")},
        input_schema=SCHEMA,
        python_env=environment_of(python),
    )
    rows = in_memory.run(transform, ROWS)
    assert sorted(row["id"] for row in rows) == [row["id"] for row in ROWS]
    assert_scores(python, str(tmp_path / "model"))


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("feed", ["dataset", "stream"])
def test_script_with_a_context_and_a_row_writer_scores(python, feed, in_memory):
    transform = RunTFScript(
        script("compat_flink_rows.py"),
        "id bigint, score float",
        entry="inference",
        feed=feed,
        user_params={"factor": 2},
        input_schema=SCHEMA,
        python_env=environment_of(python),
        max_attempts=1,
    )
    scores = {row["id"]: row["score"] for row in in_memory.run(transform, ROWS)}
    assert scores == pytest.approx({row["id"]: 2 * row["x0"] for row in ROWS}, rel=1e-6)


@pytest.mark.trainings
@pytest.mark.parametrize("python", PYTHONS[:1])
def test_script_that_makes_its_servers_by_hand_runs_with_ps_main(python, in_memory):
    transform = RunTFScript(
        script("compat_flink_ps.py"),
        "id bigint, score float",
        entry="map_func_by_hand",
        num_workers=2,
        num_ps=1,
        ps_main=True,
        input_schema=SCHEMA,
        python_env=environment_of(python),
    )
    scores = {row["id"]: row["score"] for row in in_memory.run(transform, ROWS)}
    assert scores == pytest.approx({row["id"]: 2 * row["x0"] for row in ROWS}, rel=1e-6)


@pytest.mark.trainings
def test_keras_model_is_fit_by_the_train_configs(in_memory, tmp_path):
    transform = TrainTFScript(
        script("compat_akdl_keras.py"),
        str(tmp_path / "models"),
        user_params=PARAMS,
        compat_params="strings",
        input_schema=SCHEMA,
        max_attempts=1,
    )
    (model,) = in_memory.run(transform, ROWS)
    assert_scores(sys.executable, model["uri"])

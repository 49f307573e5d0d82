"""Trainings by Estimators, with every kind of feature column, on the TensorFlows that have them: `make test-envs`.

Without interpreters to test (`BEAM_TFSCRIPT_TEST_PYTHONS`) there is nothing here: the pipeline's own TensorFlow has
no Estimators any more.
"""

from __future__ import annotations

import os

import pytest

from tests.checks import environment_of, name_of
from tests.training import line_training, read_row

pytestmark = pytest.mark.tensorflow

PYTHONS = [python for python in os.environ.get("BEAM_TFSCRIPT_TEST_PYTHONS", "").split(":") if python]
SCHEMA = """
    x float not null, y float not null, word string, other string, number bigint not null, tags array<string>,
    weights array<float>, steps array<float>, ids array<bigint>, path array<string>,
    route array<string>, way array<string>
"""
WORDS = ["a", "b", "c", "d", "unknown"]
ROWS = [
    {
        "x": i % 10 / 10,
        "y": 2 * (i % 10) / 10 + i % 5,
        "word": WORDS[i % 5],
        "other": WORDS[i % 4],
        "number": i % 5,
        "tags": WORDS[: i % 3],
        "weights": [0.5 * j for j in range(i % 3)],
        "steps": [j / 4 for j in range(i % 4)],
        "ids": [j % 4 for j in range(i % 6)],
        **dict.fromkeys(("path", "route", "way"), WORDS[: 1 + i % 4]),
    }
    for i in range(400)
]
CLUSTER = {"num_workers": 2, "num_ps": 1, "num_evaluators": 1}
# Its tasks reach each other by the machine's address, and not by localhost.
SPREAD = {**CLUSTER, "placement": "spread"}


if PYTHONS:
    # Clusters on the first and the last interpreter only: tests/test_cluster_tf_config.py has one on each.
    @pytest.mark.parametrize(
        ("python", "cluster"),
        [(python, {}) for python in PYTHONS]
        + [(python, cluster) for python in dict.fromkeys(PYTHONS[::2]) for cluster in (CLUSTER, SPREAD)],
        ids=lambda value: (
            name_of(value) if isinstance(value, str) else value.get("placement", "cluster" if value else "alone")
        ),
    )
    def test_estimator_trains_evaluates_and_exports_every_kind_of_column(in_memory, tmp_path, python, cluster):
        if cluster is SPREAD:
            cluster = {**cluster, "spool_dir": str(tmp_path / "spool")}
        training = line_training(
            "train_estimators.py", tmp_path / "models", "main", input_schema=SCHEMA, user_params={"steps": 200},
            python_env=environment_of(python), max_attempts=1, cluster_grace=60, **cluster,
        )  # fmt: skip
        (row,) = [read_row(row) for row in in_memory.run(training, ROWS)]
        assert sum(row["dataset_lengths"]) == len(ROWS) and len(row["dataset_lengths"]) == cluster.get("num_workers", 1)
        # The last evaluation is of the last step, and a cluster may do a step more.
        assert 200 <= row["metrics"]["evaluated_at"] <= 202
        if not cluster:
            assert row["metrics"]["loss"] < 1
        assert set(row["signatures"]) == {"predict", "serving_default"}
        assert row["signatures"]["predict"]["inputs"]["examples"] == {"dtype": "string", "shape": [None]}
        assert row["signatures"]["serving_default"]["method"] == "tensorflow/serving/regress"
        assert (tmp_path / "models" / "1" / "saved_model.pb").exists()

"""The demo that trains, publishes and scores, run for real: its model, its scores and its picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_tfscript.runtime.tf import saved_model
from tests.test_pipelines_digits import HELD_OUT, PROJECT

pytestmark = [pytest.mark.trainings, pytest.mark.tensorflow]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the command once; return its output directory and its standard output."""
    directory = tmp_path_factory.mktemp("digits") / "model demo"
    relative = os.path.relpath(directory, PROJECT)
    command = [sys.executable, "-m", "pipelines.digits_model", "--output", relative, "--runner=FnApiRunner"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return directory, done.stdout


def test_model_that_was_trained_reads_at_least_95_of_100_unseen_digits(demo) -> None:
    directory, printed = demo
    scores = [json.loads(line) for line in (directory / "scores.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in scores) == HELD_OUT
    right = sum(row["label"] == row["predicted"] for row in scores)
    assert right / len(scores) >= 0.95
    assert f"{100 * right / len(scores):.1f}" in printed


def test_model_is_published_as_version_1(demo) -> None:
    directory, _ = demo
    signature = saved_model.describe(str(directory / "model" / "1"))["serving_default"]
    assert signature["inputs"]["image"] == {"dtype": "float32", "shape": [None, 8, 8]}
    assert set(signature["outputs"]) == {"predicted", "confidence"}


def test_learning_is_reported_and_drawn(demo) -> None:
    directory, _ = demo
    history = json.loads((directory / "history.jsonl").read_text())
    assert [point["epoch"] for point in history] == list(range(1, 21))
    assert history[-1]["loss"] < history[0]["loss"] / 3
    assert history[-1]["watched_accuracy"] > 0.9
    with Image.open(directory / "learning.png") as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert picture.size[0] > 1000
    assert ((colours[:, 0] > 150) & (colours[:, 1] < 80)).any()

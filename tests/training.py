"""Rows on a line, a training that is run for real, and checks of its model: shared by the tests of trainings.

In go a script's entry and the transform's arguments; out come the rows that describe the model, as dicts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from beam_tfscript import TrainTFScript
from tests.running import Runner, script
from tests.without_tensorflow import LEAN

LINE = "id bigint not null, x float not null, y float not null, part string"
# y = 3x + 1; sharded by `part`, shards are uneven, and of two or three none is empty.
PARTS = ["h", "medium"] + 8 * ["large"]
POINTS = [{"id": i, "x": i % 17 / 17, "y": 3 * (i % 17) / 17 + 1, "part": PARTS[i % 10]} for i in range(320)]

_LOAD = """
import json, sys, tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
call = lambda name, values: {key: out.numpy().tolist() for key, out in signatures[name](**values).items()}
print(json.dumps(call("serving_default", {k: tf.constant(v) for k, v in json.loads(sys.argv[2]).items()})))
"""


def line_training(file: str, model_dir: Any, entry: str, **arguments: Any) -> TrainTFScript:
    """A training on POINTS."""
    arguments.setdefault("input_schema", LINE)
    return TrainTFScript(script(file), None if model_dir is None else str(model_dir), entry=entry, **arguments)


def train(runner: Runner, file: str, model_dir: Any, entry: str, rows: Any = POINTS, **arguments: Any) -> dict:
    """The one row of a training, its JSON read."""
    (row,) = runner.run(line_training(file, model_dir, entry, **arguments), rows)
    return read_row(row)


def read_row(row: dict) -> dict:
    """A row with its JSON read."""
    return {name: json.loads(row[name]) if name in ("signatures", "metrics", "history") else row[name] for name in row}


def serve(directory: str, **inputs: list) -> dict[str, list]:
    """Return the answers of the SavedModel in a directory, as loaded by TensorFlow itself."""
    command = [sys.executable, "-c", _LOAD, directory, json.dumps(inputs)]
    environ = {**os.environ, "PYTHONPATH": LEAN}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def check_same_weights(one, three):
    """Check that a cluster of three workers has learned the weights of one process, from `custom_loop`.

    Args:
      one, three: rows of the two trainings, as `read_row` returns them.
    """
    assert one["dataset_lengths"] == [320] and sorted(three["dataset_lengths"]) == [32, 32, 256]
    assert len(three["history"]) == 3
    for told in three["history"]:
        for name in ("slope", "intercept"):
            assert told[name] == pytest.approx(one["metrics"][name], rel=1e-5) and told[name] > 0.5
    y = 2 * one["metrics"]["slope"] + one["metrics"]["intercept"]
    assert serve(three["uri"], x=[2.0])["y"] == pytest.approx([y], rel=1e-5)

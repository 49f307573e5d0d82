"""The digits demo, run for real: its command line, its script, its predictions and its picture."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that
from PIL import Image

from beam_tfscript import RunTFScript
from pipelines import digits
from pipelines.digits_report import Prediction, confusion_matrix, format_accuracy, most_confused

pytestmark = pytest.mark.tensorflow

PROJECT = Path(__file__).resolve().parents[1]
HELD_OUT = list(range(0, 1797, 3))


class Demo(NamedTuple):
    """Output of a run of the command."""

    directory: Path
    printed: str
    predictions: list[dict[str, Any]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run `python -m pipelines.digits` once for all tests of its results."""
    directory = tmp_path_factory.mktemp("digits") / "made by the demo"
    command = [sys.executable, "-m", "pipelines.digits", "--output", str(directory), "--runner=FnApiRunner"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = (directory / "predictions.jsonl").read_text("utf-8").splitlines()
    return Demo(directory, done.stdout, [json.loads(line) for line in lines])


def test_reads_at_least_95_of_100_unseen_digits(demo: Demo) -> None:
    right = sum(row["label"] == row["predicted"] for row in demo.predictions)
    assert right / len(demo.predictions) >= 0.95


def test_predicts_each_held_out_row_once_and_no_other(demo: Demo) -> None:
    assert sorted(row["id"] for row in demo.predictions) == HELD_OUT
    with gzip.open(digits.INPUT, "rt", encoding="ascii") as file:
        written = [int(line.rsplit(",", 1)[1]) for line in file]
    assert {row["id"]: row["label"] for row in demo.predictions} == {number: written[number] for number in HELD_OUT}
    assert all(0 <= row["predicted"] <= 9 and 0.1 <= row["confidence"] <= 1 for row in demo.predictions)


def test_prints_accuracy_by_digit_and_where_the_results_are(demo: Demo) -> None:
    rows = Counter(row["label"] for row in demo.predictions)
    right = Counter(row["label"] for row in demo.predictions if row["label"] == row["predicted"])
    table = [line.split() for line in demo.printed.splitlines()]
    for digit in range(10):
        share = f"{100 * right[digit] / rows[digit]:.1f}"
        assert [str(digit), str(rows[digit]), str(right[digit]), share, "%"] in table
    assert ["all", "599", str(right.total()), f"{100 * right.total() / 599:.1f}", "%"] in table
    for name in ("predictions.jsonl", "confusion.png"):
        assert str(demo.directory / name) in demo.printed


def test_draws_a_picture_large_enough_to_read_and_not_blank(demo: Demo) -> None:
    with Image.open(demo.directory / "confusion.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        width, height = picture.size
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert 1200 <= width <= 3000
    assert 600 <= height <= 2000
    is_ink = (colours < 120).all(axis=1)
    is_red = (colours[:, 0] > 150) & (colours[:, 1] < 80) & (colours[:, 2] < 80)
    assert 0.01 < is_ink.mean() < 0.5
    assert is_red.any()  # a frame around an image that was read wrong


def test_leaves_nothing_but_the_two_results(demo: Demo) -> None:
    assert sorted(path.name for path in demo.directory.iterdir()) == ["confusion.png", "predictions.jsonl"]


@pytest.mark.trainings
def test_predictions_dont_depend_on_the_order_of_rows(demo: Demo) -> None:
    expected = {row["id"]: (row["predicted"], row["confidence"]) for row in demo.predictions}
    rows = list(digits.parse_digits(gzip.decompress(digits.INPUT.read_bytes()).decode().splitlines()))

    def check(actual: list[Any]) -> None:
        assert len(actual) == len(expected)
        for row in actual:
            predicted, confidence = expected[row.id]
            assert row.predicted == predicted
            assert row.confidence == pytest.approx(confidence, abs=1e-3)

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        scored = (
            pipeline
            | beam.Create(rows[::-1])
            | RunTFScript(
                main_script_file=str(digits.SCRIPT),
                input_schema=digits.INPUT_SCHEMA,
                output_schema=digits.OUTPUT_SCHEMA,
                user_params=digits.USER_PARAMS,
            )
        )
        assert_that(scored, check)


def test_passes_other_options_on_to_beam(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NoSuchRunner"):
        digits.main(["--output", str(tmp_path / "results"), "--runner=NoSuchRunner"])
    assert not (tmp_path / "results").exists()


def test_holds_out_about_as_many_of_each_digit() -> None:
    lines = gzip.decompress(digits.INPUT.read_bytes()).decode("ascii").splitlines()
    rows = list(digits.parse_digits(lines))
    held_out = Counter(row.label for row in rows if not row.training)
    assert [row.id for row in rows if not row.training] == HELD_OUT
    assert min(held_out.values()) > 0.7 * max(held_out.values())  # every fifth row would give 0.4
    assert rows[0].image.shape == (8, 8)
    assert rows[0].image.max() == 15


def test_data_is_the_published_file_and_says_its_licence() -> None:
    readme = (digits.INPUT.parent / "README.md").read_text("utf-8")
    assert hashlib.sha256(digits.INPUT.read_bytes()).hexdigest() in readme
    assert "CC BY 4.0" in readme


def test_script_is_python_3_6() -> None:
    ast.parse(digits.SCRIPT.read_text("utf-8"), feature_version=(3, 6))


def test_most_confused_are_the_surest_errors_then_the_least_sure_right_ones() -> None:
    predictions = [
        Prediction(0, 3, 3, 0.99),
        Prediction(1, 3, 8, 0.6),
        Prediction(2, 7, 7, 0.4),
        Prediction(3, 9, 4, 0.9),
    ]
    assert [prediction.id for prediction in most_confused(predictions, limit=3)] == [3, 1, 2]


def test_confusion_matrix_has_the_written_digit_in_rows() -> None:
    counts = confusion_matrix([Prediction(0, 3, 8, 0.6), Prediction(1, 3, 8, 0.7), Prediction(2, 5, 5, 1.0)])
    assert counts[3, 8] == 2
    assert counts[5, 5] == 1
    assert counts.sum() == 3


def test_accuracy_of_a_digit_that_was_not_scored_is_a_dash() -> None:
    lines = format_accuracy([Prediction(0, 3, 3, 0.9)]).splitlines()
    assert lines[1].split() == ["0", "0", "0", "–"]
    assert lines[4].split() == ["3", "1", "1", "100.0", "%"]

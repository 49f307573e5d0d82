"""Clusters and trainings in the `stream` feed: fed while they run, with models exported as they go on."""

from __future__ import annotations

import json
import os
import re

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import RunTFScript, TrainTFScript
from tests.running import Runner, SaveOutputs, _load, script

pytestmark = [pytest.mark.trainings, pytest.mark.tensorflow]

SCHEMA = "id string not null, x float not null, y float not null"
NUMBERS = [*range(20), *range(60, 80)]


def point(number):
    return {"id": str(number), "x": (1.0 + number % 3) / 4, "y": 2.0 * (1.0 + number % 3) / 4}


def run_stream(tmp_path, transform):
    """The outputs of a transform over 20 rows, a pause and 20 rows more, in a window of 100 s."""
    first, second = ([TimestampedValue(point(n), n) for n in part] for part in (NUMBERS[:20], NUMBERS[20:]))
    stream = TestStream().advance_watermark_to(0).add_elements(first)
    stream = stream.advance_watermark_to(50).add_elements(second).advance_watermark_to_infinity()
    directory = tmp_path / "outputs"
    directory.mkdir()
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=PipelineOptions(["--streaming"]))
    windowed = pipeline | stream | beam.WindowInto(FixedWindows(100))
    _ = windowed | transform | beam.ParDo(SaveOutputs(str(directory)))
    pipeline.run().wait_until_finish()
    return _load(directory)


def run_bounded(tmp_path, transform):
    """The same rows as bounded input, which is fed from the group."""
    return Runner("in_memory", tmp_path).outputs(transform, [point(n) for n in NUMBERS])["good"]


@pytest.fixture(params=[run_stream, run_bounded])
def run(request, tmp_path, monkeypatch):
    """Give the rows to a transform, as a stream and as bounded input."""
    monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    return lambda transform: request.param(tmp_path, transform)


def test_each_task_of_a_cluster_is_fed_its_own_rows_while_it_runs(run):
    outputs = run(
        RunTFScript(
            script("train_stream.py"), "id string, task string", input_schema=SCHEMA, entry="with_ps", num_workers=2,
            num_ps=1, feed="stream",
        )
    )  # fmt: skip
    assert sorted(int(output.row["id"]) for output in outputs) == NUMBERS
    assert {output.row["task"] for output in outputs} == {"chief:0", "worker:0"}


def test_each_model_that_is_exported_on_the_way_is_the_next_version(run, tmp_path):
    models = tmp_path / "models"
    outputs = run(
        TrainTFScript(
            script("train_stream.py"), str(models), input_schema=SCHEMA, entry="learn", user_params={"every": 15},
            feed="stream",
        )
    )  # fmt: skip
    rows = sorted((output.row for output in outputs), key=lambda row: row["version"])
    assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == 3
    read = [row["dataset_lengths"][0] for row in rows]
    assert read == sorted(read) and read[-1] == 40
    assert [os.path.exists(f"{row['uri']}/saved_model.pb") for row in rows] == [True] * 3
    assert json.loads(rows[-1]["metrics"])["weight"] == pytest.approx(2.0, abs=0.05)
    assert json.loads(rows[-1]["signatures"])["serving_default"]["outputs"]["y"]["dtype"] == "float32"


def test_a_cluster_trains_on_what_it_was_fed(run, tmp_path):
    (output,) = run(
        TrainTFScript(
            script("train_stream.py"), str(tmp_path / "models"), input_schema=SCHEMA, entry="learn_together",
            num_workers=2, feed="stream",
        )
    )  # fmt: skip
    assert json.loads(output.row["metrics"])["total"] == pytest.approx(sum(point(n)["x"] for n in NUMBERS))


def test_checkpoints_last_until_their_window_is_done(run, tmp_path):
    transform = TrainTFScript(
        script("train_stream.py"), str(tmp_path / "models"), input_schema=SCHEMA, entry="remember",
        user_params={"seen": str(tmp_path / "seen")}, feed="stream",
    )  # fmt: skip
    stamped = beam.Map(lambda row: TimestampedValue(row, int(row["id"])))
    outputs = run(stamped | beam.WindowInto(FixedWindows(50)) | transform)
    reports = [json.loads(output.row["metrics"]) for output in outputs]
    assert sorted(report["went_on"] for report in reports) == [0, 1]
    assert [report["left"] for report in reports] == [0, 0]
    first, second = (tmp_path / "seen").read_text().splitlines()
    assert first != second
    assert re.fullmatch(r"[\w-]+", os.path.basename(first))


def test_killed_worker_of_a_cluster_is_replayed_with_all_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    transform = RunTFScript(
        script("train_stream.py"), "id string, task string", input_schema=SCHEMA, entry="worker_dies_once",
        num_workers=2, feed="stream", placement="one_host", user_params={"mark": str(tmp_path / "mark")},
    )  # fmt: skip
    outputs = run_stream(tmp_path, transform)
    assert {int(output.row["id"]) for output in outputs} == set(NUMBERS)
    assert (tmp_path / "mark").exists()

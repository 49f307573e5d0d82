"""A training and clusters on every engine: `make test-heavy`, `test-prism`, `test-flink`, `test-spark`."""

from __future__ import annotations

import collections

import apache_beam as beam
import pytest

from beam_tfscript import RunTFScript
from tests.running import script
from tests.training import LINE, POINTS, line_training, read_row, serve

pytestmark = [pytest.mark.trainings, pytest.mark.tensorflow]


class TrainAndCount(beam.PTransform):
    """Number and names of the models that a training gives, behind a shuffle."""

    def __init__(self, training):
        super().__init__()
        self._training = training

    def expand(self, rows):
        return rows | self._training | beam.Reshuffle() | beam.Map(lambda model: model._asdict())


@pytest.mark.parametrize("placement", ["one_host", "spread"])
def test_cluster_learns_what_its_rows_say_and_publishes_one_model(runner, tmp_path, placement):
    training = line_training(
        "train_clusters.py", tmp_path / "models", "custom_loop", num_workers=2, user_params={"batches": 10},
        placement=placement, spool_dir=str(tmp_path / "spool"), cluster_timeout=120,
    )  # fmt: skip
    (row,) = [read_row(row) for row in runner.run(TrainAndCount(training), POINTS)]
    assert (row["version"], row["uri"]) == (1, str(tmp_path / "models" / "1"))
    assert len(row["dataset_lengths"]) == 2 and sum(row["dataset_lengths"]) == len(POINTS)
    assert sum(told["rows"] for told in row["history"]) == len(POINTS)
    (start, end) = serve(row["uri"], x=[0.0, 1.0])["y"]
    assert 0.5 < start < 2.5 and 2.5 < end < 4.5


def run_cluster(runner, entry, **arguments):
    """Run a script that writes its rows on a chief, a worker and a server."""
    transform = RunTFScript(
        script("train_rows.py"), "id bigint, task string, attempt int", input_schema=LINE, entry=entry,
        placement="one_host", num_workers=2, num_ps=1, shard_by="part", **arguments,
    )  # fmt: skip
    return runner.run(transform, POINTS)


def test_rows_of_all_tasks_come_once(runner):
    rows = run_cluster(runner, "hosted")
    assert sorted(row["id"] for row in rows) == list(range(len(POINTS)))
    assert collections.Counter(row["task"] for row in rows) == {"worker:0": 288, "chief:0": 32}
    assert runner.metrics["tasks"] == 2 and runner.metrics["runs"] == 1


def test_rows_of_a_cluster_that_died_come_once(runner):
    rows = run_cluster(runner, "tell", user_params={"die": "worker:0"}, max_attempts=2, ps_main=True)
    tasks = collections.Counter(row["task"] for row in rows)
    # A server ends with those it serves: what it writes by itself may come, or come too late.
    assert tasks.pop("ps:0", 1) == 1
    assert tasks == {"worker:0": 288, "chief:0": 32}
    assert sorted(row["id"] for row in rows if row["id"] >= 0) == list(range(len(POINTS)))
    assert {row["attempt"] for row in rows} == {2} and runner.metrics["tasks"] in (2, 3)
    assert runner.metrics["runs"] == 2 and runner.metrics["process_deaths"] == 1

"""One training on every engine: local ones by `make test-heavy`, others by `make test-prism`, `-flink` and `-spark`."""

from __future__ import annotations

import apache_beam as beam
import pytest

from tests.training import POINTS, line_training, read_row, serve

pytestmark = pytest.mark.tensorflow


class TrainAndCount(beam.PTransform):
    """Number and names of the models that a training gives, behind a shuffle."""

    def __init__(self, training):
        super().__init__()
        self._training = training

    def expand(self, rows):
        return rows | self._training | beam.Reshuffle() | beam.Map(lambda model: model._asdict())


@pytest.mark.trainings
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

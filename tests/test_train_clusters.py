"""Clusters of tasks on one machine: they train what one process trains, each with its own rows."""

from __future__ import annotations

import gzip

import pytest

from pipelines.digits import INPUT, INPUT_SCHEMA, parse_digits
from tests.training import POINTS, check_same_weights, train

pytestmark = [pytest.mark.trainings, pytest.mark.tensorflow]

DIGITS_STEPS = 1000
# Two points of a hundred.
TOLERANCE = 0.02


def test_keras_fit_on_uneven_shards_doesnt_hang(in_memory, tmp_path):
    num_workers = 3
    row = train(
        in_memory, "train_clusters.py", tmp_path / "models", "keras_mirrored",
        num_workers=num_workers, shard_by="part", env={"TF_USE_LEGACY_KERAS": "1"}, max_attempts=1,
    )  # fmt: skip
    lengths = row["dataset_lengths"]
    assert len(lengths) == num_workers and sum(lengths) == len(POINTS) and max(lengths) >= 8 * min(lengths)
    kernels = {row["metrics"][f"kernel_{shard}"] for shard in range(num_workers)}
    assert len(kernels) == 1 and kernels != {0.0}
    (inputs,) = row["signatures"]["serving_default"]["inputs"].values()
    assert inputs == {"dtype": "float32", "shape": [None, 1]}


def test_all_reduce_of_three_workers_learns_the_weights_of_one_process(in_memory, tmp_path):
    def learn(num_workers):
        return train(
            in_memory, "train_clusters.py", tmp_path / str(num_workers), "custom_loop",
            num_workers=num_workers, shard_by="part", user_params={"batches": len(POINTS) // 32}, max_attempts=1,
        )  # fmt: skip

    one, three = learn(1), learn(3)
    check_same_weights(one, three)


@pytest.mark.slow
def test_parameter_servers_learn_the_digits_as_well_as_one_process(in_memory, tmp_path, caplog):
    with gzip.open(INPUT, "rt") as lines:
        digits = [row._asdict() for row in parse_digits(lines)]

    def learn(entry, **cluster):
        return train(
            in_memory, "train_digits.py", tmp_path / entry, entry, digits,
            input_schema=INPUT_SCHEMA, user_params={"steps": DIGITS_STEPS}, max_attempts=1, **cluster,
        )["metrics"]  # fmt: skip

    alone, servers = learn("alone"), learn("parameter_servers", num_workers=3, num_ps=2, feed_timeout=1)
    assert alone["seen"] == servers["seen"] == len(digits) // 3
    assert alone["accuracy"] > 0.94 and servers["accuracy"] == pytest.approx(alone["accuracy"], abs=TOLERANCE)
    # The chief coordinates; each of the other two has done its part.
    assert servers["workers"] == 2 and servers["fewest"] > DIGITS_STEPS / 10
    # Others are told by the log to be silent for so long; a server only serves.
    silent = [message for message in caplog.messages if "has said nothing for 1 s" in message]
    assert silent and not any(" ps:" in message for message in silent)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sixteen_tasks_meet_and_sum_their_rows(in_memory, tmp_path):
    metrics = train(
        in_memory, "train_clusters.py", tmp_path, "meet",
        num_workers=16, max_attempts=1, intra_op_parallelism=1, start_timeout=500,
    )["metrics"]  # fmt: skip
    assert (metrics["tasks"], metrics["count"]) == (16, len(POINTS))
    assert metrics["total"] == pytest.approx(sum(point["x"] for point in POINTS), rel=1e-5)

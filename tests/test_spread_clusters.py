"""Clusters with placement="spread": rows, trainings and faults, with all tasks in one bundle and in several."""

from __future__ import annotations

import collections
import os

import pytest

from beam_tfscript import RunTFScript
from tests.running import script
from tests.test_train_faults import TASKS, counting, failures
from tests.training import LINE, POINTS, line_training, read_row, serve

pytestmark = [pytest.mark.trainings, pytest.mark.tensorflow]

# All bundles at once in two threads, each with some of the keys, as in two slots of a machine.
TWO_SLOTS = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]


@pytest.fixture(autouse=True)
def spool_dir(tmp_path):
    """Give the directory in which tasks meet; nothing is left in it."""
    directory = tmp_path / "spool"
    directory.mkdir()
    yield str(directory)
    assert os.listdir(directory) == []


class TestRunTFScript:
    def run(self, runner, spool_dir, entry, options=(), rows=POINTS, **arguments):
        transform = RunTFScript(
            script("train_rows.py"), "id bigint, task string, attempt int", input_schema=LINE, entry=entry,
            placement="spread", num_workers=2, num_ps=1, shard_by="part", spool_dir=spool_dir, **arguments,
        )  # fmt: skip
        return runner.run(transform, rows, options=options)

    @pytest.mark.parametrize("options", [[], TWO_SLOTS], ids=["one bundle", "two slots"])
    def test_rows_of_all_tasks_come_once(self, in_memory, spool_dir, caplog, options):
        rows = self.run(in_memory, spool_dir, "hosted", options)
        assert sorted(row["id"] for row in rows) == list(range(len(POINTS)))
        assert collections.Counter(row["task"] for row in rows) == {"worker:0": 288, "chief:0": 32}
        assert in_memory.metrics["tasks"] == 2 and in_memory.metrics["runs"] == 1
        (begun, *_) = [message for message in caplog.messages if "attempt 1 of a cluster begins" in message]
        assert begun.count(", process ") == (2 if options else 1), begun

    @pytest.mark.parametrize("options", [[], TWO_SLOTS], ids=["one bundle", "two slots"])
    def test_rows_of_a_cluster_that_died_come_once(self, in_memory, spool_dir, options):
        rows = self.run(
            in_memory, spool_dir, "tell", options, user_params={"die": "worker:0"}, max_attempts=2, ps_main=True
        )
        tasks = collections.Counter(row["task"] for row in rows)
        # A server ends with those it serves: what it writes by itself may come, or come too late.
        assert tasks.pop("ps:0", 1) == 1 and tasks == {"worker:0": 288, "chief:0": 32}
        assert sorted(row["id"] for row in rows if row["id"] >= 0) == list(range(len(POINTS)))
        assert {row["attempt"] for row in rows} == {2} and in_memory.metrics["tasks"] in (2, 3)
        assert in_memory.metrics["runs"] == 2 and in_memory.metrics["process_deaths"] == 1


@pytest.mark.parametrize("options", [[], TWO_SLOTS], ids=["one bundle", "two slots"])
def test_all_reduce_learns_the_weights_of_one_process(in_memory, tmp_path, spool_dir, options):
    def learn(num_workers, **arguments):
        arguments.update(num_workers=num_workers, shard_by="part", user_params={"batches": len(POINTS) // 32})
        training = line_training("train_clusters.py", tmp_path / str(num_workers), "custom_loop", **arguments)
        (row,) = in_memory.run(training, POINTS, options=options)
        return read_row(row)

    one, three = learn(1), learn(3, placement="spread", spool_dir=spool_dir)
    assert one["dataset_lengths"] == [320] and sorted(three["dataset_lengths"]) == [32, 32, 256]
    assert len(three["history"]) == 3
    for told in three["history"]:
        for name in ("slope", "intercept"):
            assert told[name] == pytest.approx(one["metrics"][name], rel=1e-5) and told[name] > 0.5
    y = 2 * one["metrics"]["slope"] + one["metrics"]["intercept"]
    assert serve(three["uri"], x=[2.0])["y"] == pytest.approx([y], rel=1e-5)


def test_training_whose_tasks_die_goes_on_from_its_checkpoints(in_memory, tmp_path, spool_dir, caplog):
    arguments = {"placement": "spread", "spool_dir": spool_dir}
    row, begun = counting(in_memory, tmp_path, [("training", 1), ("export", 2)], max_attempts=3, **arguments)
    assert [task for text in failures(caplog) for task in TASKS if f" {task} " in text.splitlines()[0]] == TASKS[1:]
    assert row["attempt"] == 3 and begun == [0, 10, 40] and row["metrics"] == {"begin": 40, "count": 40}
    assert serve(row["uri"], x=[1.0])["y"] == [40.0]

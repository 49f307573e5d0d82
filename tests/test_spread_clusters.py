"""Clusters with placement="spread": rows, trainings and faults, with all tasks in one bundle and in several."""

from __future__ import annotations

import collections
import os

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, GlobalWindow, TimestampedValue
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN

from beam_tfscript import RunTFScript
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.run_cluster import RunShares
from beam_tfscript.errors import ScriptEnvironmentError
from tests.running import script
from tests.test_train_faults import TASKS, counting, failures
from tests.training import LINE, POINTS, check_same_weights, line_training, read_row, serve

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
    def transform(self, spool_dir, entry, **arguments):
        return RunTFScript(
            script("train_rows.py"), "id bigint, task string, attempt int", input_schema=LINE, entry=entry,
            placement="spread", num_workers=2, num_ps=1, shard_by="part", spool_dir=spool_dir, **arguments,
        )  # fmt: skip

    def run(self, runner, spool_dir, entry, options=(), rows=POINTS, **arguments):
        return runner.run(self.transform(spool_dir, entry, **arguments), rows, options=options)

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

    def test_each_window_is_a_cluster_of_its_own_and_rows_may_come_as_files(self, in_memory, spool_dir):
        transform = self.transform(spool_dir, "hosted", transport="files", num_evaluators=1)
        outputs = in_memory.outputs(
            transform, POINTS,
            before=lambda rows: (
                rows
                | "Time" >> beam.Map(lambda row: TimestampedValue(row, row["id"]))
                | "Window" >> beam.WindowInto(FixedWindows(160))
            ),
        )["good"]  # fmt: skip
        found = collections.Counter((output.window, output.row["task"]) for output in outputs)
        assert sum(found.values()) == len(POINTS) + 2 * 16
        for window in ((0.0, 160.0), (160.0, 320.0)):
            # The evaluator has the rows of the chief.
            assert found[window, "chief:0"] == found[window, "evaluator:0"] == 16
            assert found[window, "worker:0"] == 144
        assert in_memory.metrics["runs"] == 2

    def test_cluster_without_input_has_an_element_for_each_task(self, in_memory, spool_dir):
        assert self.run(in_memory, spool_dir, "hosted", rows=None) == []
        assert in_memory.metrics["tasks"] == 2

    def test_tasks_whose_bundles_come_one_after_the_other_fail_after_the_timeout(self, spool_dir):
        transform = self.transform(spool_dir, "hosted", cluster_timeout=1)
        options = transform._options.resolve("dataset", Schema.parse(LINE), meeting_dir=spool_dir)
        dofn = RunShares(options, None)
        dofn.setup()
        try:
            for key, missing in zip(options.task_keys, ("worker:0, ps:0", "chief:0, ps:0", "chief:0, worker:0")):
                dofn.start_bundle()
                dofn.process((key, []), GlobalWindow(), PANE_INFO_UNKNOWN)
                message = (
                    f"No bundle has begun for {missing}: the runner has fewer free slots than the cluster's 3 tasks"
                )
                with pytest.raises(ScriptEnvironmentError, match=message):
                    list(dofn.finish_bundle())
        finally:
            dofn.teardown()


@pytest.mark.parametrize("options", [[], TWO_SLOTS], ids=["one bundle", "two slots"])
def test_all_reduce_learns_the_weights_of_one_process(in_memory, tmp_path, spool_dir, options):
    def learn(num_workers, **arguments):
        arguments.update(num_workers=num_workers, shard_by="part", user_params={"batches": len(POINTS) // 32})
        training = line_training("train_clusters.py", tmp_path / str(num_workers), "custom_loop", **arguments)
        (row,) = in_memory.run(training, POINTS, options=options)
        return read_row(row)

    one, three = learn(1), learn(3, placement="spread", spool_dir=spool_dir)
    check_same_weights(one, three)


def test_training_whose_tasks_die_goes_on_from_its_checkpoints(in_memory, tmp_path, spool_dir, caplog):
    arguments = {"placement": "spread", "spool_dir": spool_dir}
    row, begun = counting(in_memory, tmp_path, [("training", 1), ("export", 2)], max_attempts=3, **arguments)
    assert [task for text in failures(caplog) for task in TASKS if f" {task} " in text.splitlines()[0]] == TASKS[1:]
    assert row["attempt"] == 3 and begun == [0, 10, 40] and row["metrics"] == {"begin": 40, "count": 40}
    assert serve(row["uri"], x=[1.0])["y"] == [40.0]

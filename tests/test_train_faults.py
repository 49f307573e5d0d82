"""Clusters in which a task dies, raises or goes on: the training is done all the same, or one error names the task.

That nothing is left (process, thread, file, descriptor, and so no held port) is asserted after every test, in
conftest.py.
"""

from __future__ import annotations

import logging
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from beam_tfscript import RunTFScript
from tests.running import script
from tests.training import LINE, POINTS, line_training, serve, train

pytestmark = [pytest.mark.trainings, pytest.mark.tensorflow]

TASKS = ["chief:0", "worker:0", "ps:0"]
FILES = [script("train_clusters.py")]
CLUSTER = {"num_workers": 2, "num_ps": 1, "user_files": FILES}


def counting(runner, tmp_path, kills=(), **arguments):
    """The row of a training in which tasks are killed, and the steps that each generation began at."""
    row = train(
        runner, "train_faults.py", tmp_path / "models", "counts",
        user_params={"kills": list(kills), "log": str(tmp_path / "begun")}, **CLUSTER, **arguments,
    )  # fmt: skip
    return row, [int(line) for line in (tmp_path / "begun").read_text().split()]


def failures(caplog) -> list[str]:
    """Return the log's messages about clusters that were ended."""
    return [
        record.getMessage() for record in caplog.records
        if record.name == "beam_tfscript.feeds.retries" and record.levelno == logging.WARNING
    ]  # fmt: skip


def assert_each_was_named(warnings: list[str]) -> None:
    assert len(warnings) == len(TASKS)
    for attempt, (task, text) in enumerate(zip(TASKS, warnings), 1):
        first = text.splitlines()[0]
        assert f"train_faults.py {task} " in first and f"attempt {attempt}" in first and "SIGKILL" in first, text


def assert_one_good_model(row: dict, models: pathlib.Path) -> None:
    assert sorted(os.listdir(models)) == [".publishing", "1"]
    assert serve(row["uri"], x=[1.0])["y"] == [40.0]


def test_cluster_whose_tasks_die_while_they_come_up_starts_again(in_memory, tmp_path, caplog):
    with killed_while_starting(len(TASKS)) as killed:
        row, begun = counting(in_memory, tmp_path, max_attempts=4)
    assert len(killed) == len(TASKS)
    assert_each_was_named(failures(caplog))
    assert row["attempt"] == 4 and begun == [0] and row["metrics"] == {"begin": 0, "count": 40}
    assert in_memory.metrics["runs_failed"] == in_memory.metrics["process_deaths"] == 3


@pytest.mark.slow
def test_training_whose_tasks_die_goes_on_from_its_checkpoints(in_memory, tmp_path, caplog):
    row, begun = counting(in_memory, tmp_path, [("training", task) for task in range(3)], max_attempts=4)
    assert_each_was_named(failures(caplog))
    assert row["attempt"] == 4 and begun == [0, 10, 20, 30] and row["metrics"] == {"begin": 30, "count": 40}
    assert_one_good_model(row, tmp_path / "models")


@pytest.mark.slow
def test_training_whose_tasks_die_at_the_export_publishes_a_whole_model(in_memory, tmp_path, caplog):
    row, begun = counting(in_memory, tmp_path, [("export", task) for task in range(3)], max_attempts=4)
    assert_each_was_named(failures(caplog))
    assert row["attempt"] == 4 and begun == [0, 40, 40, 40]
    assert_one_good_model(row, tmp_path / "models")


def test_last_attempt_fails_with_the_task_that_was_killed_and_publishes_nothing(in_memory, tmp_path):
    with pytest.raises(Exception) as caught:
        counting(in_memory, tmp_path, [("training", TASKS.index("ps:0"))], max_attempts=1)
    text = str(caught.value)
    assert "train_faults.py ps:0 of 2 workers attempt 1" in text and "SIGKILL" in text and "chief:0" not in text
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("who", "other"), [("chief", "worker"), ("worker", "chief")])
def test_raise_is_told_as_that_tasks_own_and_not_as_what_it_did_to_another(in_memory, tmp_path, who, other):
    transform = line_training(
        "train_faults.py", tmp_path / "models", "raises",
        num_workers=2, user_files=FILES, user_params={"who": who}, max_attempts=1,
    )  # fmt: skip
    with pytest.raises(Exception) as caught:
        in_memory.run(transform, POINTS)
    text = str(caught.value)
    assert f"train_faults.py {who}:0 shard" in text and f"{other}:0" not in text
    assert "ZeroDivisionError" in text and "return 1 / (config.num_workers - 2)" in text


def test_worker_that_goes_on_when_the_chief_is_done_is_ended_after_its_grace(in_memory, tmp_path, caplog):
    begin = time.monotonic()
    row = train(
        in_memory, "train_faults.py", tmp_path / "models", "chief_ends_first",
        num_workers=2, user_files=FILES, cluster_grace=0.5, max_attempts=1,
    )  # fmt: skip
    assert time.monotonic() - begin < 120 and row["version"] == 1
    assert "train_faults.py worker:0 shard 1/2 attempt 1 has not ended 0.5 s after the chief was done" in caplog.text


def test_worker_that_would_still_write_rows_isnt_cut_off_without_an_error(in_memory):
    transform = RunTFScript(
        script("train_faults.py"), "id bigint", input_schema=LINE, entry="chief_ends_first", user_files=FILES,
        placement="one_host", num_workers=2, cluster_grace=0,
    )  # fmt: skip
    with pytest.raises(Exception, match=r"worker:0 shard 1/2 attempt 1 has not ended 0 s .*would still write are lost"):
        in_memory.run(transform, POINTS)


def is_script(child: psutil.Process) -> bool:
    """Return True if a process is a script's, and was not started by another test of this session."""
    try:
        return any("launcher.main()" in part for part in child.cmdline())
    except psutil.NoSuchProcess:
        return False


@contextmanager
def killed_while_starting(count: int) -> Iterator[list[int]]:
    """Kill another task in each of the next attempts of a cluster, while all tasks come up."""
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        seen: set[int] = set()
        while len(killed) < count and not over.wait(0.02):
            started = [child for child in psutil.Process().children() if child.pid not in seen and is_script(child)]
            if len(started) == len(TASKS):
                started.sort(key=lambda child: (child.create_time(), child.pid))
                seen.update(child.pid for child in started)
                os.kill(started[len(killed)].pid, signal.SIGKILL)
                killed.append(started[len(killed)].pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield killed
    finally:
        over.set()
        watcher.join()

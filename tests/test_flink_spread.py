"""Clusters with placement="spread" on a Flink of two machines: trainings over both, and kills (`make test-cluster`)."""

from __future__ import annotations

import os
import signal

import apache_beam as beam
import pytest

from beam_tfscript import RunTFScript
from tests.cluster_jobs import BatchJob, as_dict, scripts_on, workers_on
from tests.running import script
from tests.training import LINE, POINTS, line_training, read_row, serve

pytestmark = [pytest.mark.job_server, pytest.mark.tensorflow, pytest.mark.timeout(1200)]
# Four TensorFlows start at the same time.
LONG_S = 300
FILES = [script("train_clusters.py")]
# One slot per task: a task is a key, and keys are spread over the slots.
CLUSTER = {"placement": "spread", "num_workers": 2, "num_ps": 1}


def start(cluster, transform):
    """Start a job with a transform over the points."""
    return BatchJob(cluster, lambda pipeline: pipeline | beam.Create(POINTS) | transform | beam.Map(as_dict))


def rows_of(job):
    """Wait for the end of a job; return its rows."""
    job.wait(LONG_S)
    return job.rows()


def counting(directory, **arguments):
    params = {"log": str(directory / "log"), "go": str(directory / "go")}
    return line_training(
        "spread.py", directory / "models", "counts",
        user_files=[*FILES], user_params=params, spool_dir=str(directory / "spool"), **CLUSTER, **arguments,
    )  # fmt: skip


def log_of(directory):
    path = directory / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_rows_of_tasks_on_two_machines_come_once(cluster, cluster_directory):
    transform = RunTFScript(
        script("spread.py"), "id bigint, task string, host string, hosts string", input_schema=LINE, entry="where",
        user_files=FILES, spool_dir=str(cluster_directory / "spool"), **CLUSTER,
    )  # fmt: skip
    rows = rows_of(start(cluster, transform))
    assert sorted(row["id"] for row in rows) == list(range(len(POINTS)))
    assert {row["task"] for row in rows} == {"chief:0", "worker:0"}
    addresses = {machine.address for machine in cluster.machines}
    assert {address for row in rows for address in row["hosts"].split(",")} == addresses
    assert {row["host"] for row in rows} <= addresses


def test_all_reduce_over_two_machines_sums_the_rows_of_both(cluster, cluster_directory):
    transform = line_training(
        "spread.py", cluster_directory / "models", "meet",
        user_files=FILES, placement="spread", num_workers=4, spool_dir=str(cluster_directory / "spool"),
    )  # fmt: skip
    (row,) = map(read_row, rows_of(start(cluster, transform)))
    assert row["metrics"]["hosts"] == 2 and row["metrics"]["tasks"] == 4 and row["metrics"]["count"] == len(POINTS)
    assert row["metrics"]["total"] == pytest.approx(sum(point["x"] for point in POINTS), rel=1e-5)
    assert sum(row["dataset_lengths"]) == len(POINTS) and len(row["dataset_lengths"]) == 4
    assert len([told for told in row["history"] if "met_at" in told]) == 4


def test_parameter_servers_over_two_machines_go_on_when_script_processes_are_killed(cluster, cluster_directory):
    job = start(cluster, counting(cluster_directory, max_attempts=3))
    for attempt, machine in enumerate(cluster.machines, 1):
        cluster.wait_until(lambda attempt=attempt: f"waits 18 {attempt}" in log_of(cluster_directory), LONG_S)
        os.kill(min(scripts_on(machine)), signal.SIGKILL)
    (cluster_directory / "go").touch()
    (row,) = map(read_row, rows_of(job))
    assert row["attempt"] == 3 and row["metrics"] == {"begin": 15, "count": 30, "hosts": 2}
    assert [line.split()[1] for line in log_of(cluster_directory) if line.startswith("begun")] == ["0", "15", "15"]
    assert serve(row["uri"], x=[1.0])["y"] == [30.0]
    assert sorted(os.listdir(cluster_directory / "models")) == [".publishing", "1"]


def kill_workers(machine):
    """Kill the SDK workers of a machine; return their number."""
    workers = workers_on(machine)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    return len(workers)


@pytest.mark.parametrize("killed", ["worker", "task manager"])
def test_job_that_does_not_restart_fails_and_leaves_nothing(cluster, cluster_directory, killed):
    job = start(cluster, counting(cluster_directory, max_attempts=1))
    cluster.wait_until(lambda: "waits 18 1" in log_of(cluster_directory), LONG_S)
    if killed == "worker":
        assert kill_workers(cluster.machines[1])
    else:
        cluster.kill_task_manager(1)
    with pytest.raises(RuntimeError):
        job.wait(LONG_S)
    assert not (cluster_directory / "models").exists()

"""Clusters with placement="spread" on a Flink of two machines: trainings over both, and kills (`make test-cluster`)."""

from __future__ import annotations

import os
import signal
import threading

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript import RunTFScript
from tests.cluster_jobs import restore, scripts_on, workers_on
from tests.running import SaveOutputs, _load, script
from tests.training import LINE, POINTS, line_training, read_row, serve

pytestmark = [pytest.mark.job_server, pytest.mark.tensorflow, pytest.mark.timeout(1200)]
# Four TensorFlows start at the same time.
LONG_S = 300
FILES = [script("train_clusters.py")]
# One slot per task: a task is a key, and keys are spread over the slots.
CLUSTER = {"placement": "spread", "num_workers": 2, "num_ps": 1}


class Job:
    """A batch job on the cluster, run by a thread of this process; its directory is seen by all machines."""

    def __init__(self, cluster, directory, transform, options=()):
        self.cluster = cluster
        self._outputs = directory / "rows"
        self._outputs.mkdir()
        self._outputs.chmod(0o777)
        arguments = [f"--job_endpoint={cluster.endpoint}", *cluster.options(4), *options]
        pipeline = beam.Pipeline(runner="PortableRunner", options=PipelineOptions(arguments))
        _ = (
            pipeline
            | beam.Create(POINTS)
            | "Script" >> transform
            | "Rows" >> beam.Map(lambda row: row._asdict())
            | "Save" >> beam.ParDo(SaveOutputs(str(self._outputs)))
        )
        self.error = None
        self._thread = threading.Thread(target=self._run, args=(pipeline,))
        self._thread.start()

    def _run(self, pipeline):
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:  # noqa: BLE001 - each engine raises its own
            self.error = error

    def rows(self):
        """Wait for the end; return the rows, or raise the job's error."""
        self.wait()
        if self.error is not None:
            raise self.error
        return [output.row for output in _load(self._outputs)]

    def wait(self):
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()


@pytest.fixture
def directory(cluster):
    """Give a directory of the test that all machines see; nothing is left where tasks have met, nor on a machine."""
    made = cluster.make_shared_directory()
    (made / "spool").mkdir()
    (made / "spool").chmod(0o777)
    yield made
    restore(cluster)
    assert os.listdir(made / "spool") == []


def counting(directory, **arguments):
    params = {"log": str(directory / "log"), "go": str(directory / "go")}
    return line_training(
        "spread.py", directory / "models", "counts",
        user_files=[*FILES], user_params=params, spool_dir=str(directory / "spool"), **CLUSTER, **arguments,
    )  # fmt: skip


def log_of(directory):
    path = directory / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_rows_of_tasks_on_two_machines_come_once(cluster, directory):
    transform = RunTFScript(
        script("spread.py"), "id bigint, task string, host string, hosts string", input_schema=LINE, entry="where",
        user_files=FILES, spool_dir=str(directory / "spool"), **CLUSTER,
    )  # fmt: skip
    rows = Job(cluster, directory, transform).rows()
    assert sorted(row["id"] for row in rows) == list(range(len(POINTS)))
    assert {row["task"] for row in rows} == {"chief:0", "worker:0"}
    addresses = {machine.address for machine in cluster.machines}
    assert {address for row in rows for address in row["hosts"].split(",")} == addresses
    assert {row["host"] for row in rows} <= addresses


def test_all_reduce_over_two_machines_sums_the_rows_of_both(cluster, directory):
    transform = line_training(
        "spread.py", directory / "models", "meet",
        user_files=FILES, placement="spread", num_workers=4, spool_dir=str(directory / "spool"),
    )  # fmt: skip
    (row,) = map(read_row, Job(cluster, directory, transform).rows())
    assert row["metrics"]["hosts"] == 2 and row["metrics"]["tasks"] == 4 and row["metrics"]["count"] == len(POINTS)
    assert row["metrics"]["total"] == pytest.approx(sum(point["x"] for point in POINTS), rel=1e-5)
    assert sum(row["dataset_lengths"]) == len(POINTS) and len(row["dataset_lengths"]) == 4
    assert len([told for told in row["history"] if "met_at" in told]) == 4


def test_parameter_servers_over_two_machines_go_on_when_script_processes_are_killed(cluster, directory):
    job = Job(cluster, directory, counting(directory, max_attempts=3))
    for attempt, machine in enumerate(cluster.machines, 1):
        cluster.wait_until(lambda attempt=attempt: f"waits 18 {attempt}" in log_of(directory), LONG_S)
        os.kill(min(scripts_on(machine)), signal.SIGKILL)
    (directory / "go").touch()
    (row,) = map(read_row, job.rows())
    assert row["attempt"] == 3 and row["metrics"] == {"begin": 15, "count": 30, "hosts": 2}
    assert [line.split()[1] for line in log_of(directory) if line.startswith("begun")] == ["0", "15", "15"]
    assert serve(row["uri"], x=[1.0])["y"] == [30.0]
    assert sorted(os.listdir(directory / "models")) == [".publishing", "1"]


def kill_workers(machine):
    """Kill the SDK workers of a machine; return their number."""
    workers = workers_on(machine)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    return len(workers)


@pytest.mark.parametrize("killed", ["worker", "task manager"])
def test_job_that_does_not_restart_fails_and_leaves_nothing(cluster, directory, killed):
    job = Job(cluster, directory, counting(directory, max_attempts=1))
    cluster.wait_until(lambda: "waits 18 1" in log_of(directory), LONG_S)
    if killed == "worker":
        assert kill_workers(cluster.machines[1])
    else:
        cluster.kill_task_manager(1)
    job.wait()
    assert job.error is not None
    assert not (directory / "models").exists()

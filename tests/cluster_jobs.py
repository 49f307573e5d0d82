"""A Flink cluster for tests: the fixture, batch jobs on it, and what runs and lies on its machines."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript.runtime.transport.scratch import PREFIX
from tests.engines import flink_cluster
from tests.engines.server import started
from tests.engines.tools import ToolMissing
from tests.running import SaveOutputs, _load

SOON_S, LONG_S = 60, 300
# Five times as long as the TaskManagers and the JobManager wait for each other.
CUT_S = 30
# Beam's runner has no restarts for batch jobs: its option for the number of retries is for streaming jobs.
RESTARTS = {
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "3",
    "restart-strategy.fixed-delay.delay": "1 s",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start a Flink cluster of two machines."""
    yield from run_cluster(tmp_path_factory)


def run_cluster(tmp_path_factory, settings=None):
    """Yield a cluster with further settings of Flink; one exists at a time."""
    directory = tmp_path_factory.mktemp("cluster")
    try:
        flink_cluster.build()
        with (
            flink_cluster.flink_cluster(directory, settings=settings) as running,
            started(flink_cluster.JobServer(running), tmp_path_factory.mktemp("server")) as running.endpoint,
        ):
            yield running
    except ToolMissing as missing:
        pytest.skip(str(missing))


def processes_on(machine, what):
    """pid -> command line of those on a machine that have this in theirs."""
    found = {}
    for pid in machine.pids():
        with contextlib.suppress(OSError):
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if what in command:
                found[pid] = command
    return found


def scripts_on(machine):
    return processes_on(machine, "launcher.main()")


def workers_on(machine):
    return processes_on(machine, "sdk_worker_main")


def left_on(machine):
    """Describe the script processes and scratch directories on a machine."""
    left = [f"{machine.address}: {process}" for process in scripts_on(machine).items()]
    names = [name for name in os.listdir(machine.directory / "tmp") if name.startswith(PREFIX)]
    return left + [f"{machine.address}: {name}" for name in names]


def wait_until_clean(cluster):
    """Wait until no script process and no scratch directory is left on the machines; end SDK workers that rest.

    A TaskManager that lost its job sometimes does not stop the SDK worker that it has started.
    """
    # An SDK worker that rests keeps a script process for a minute.
    deadline = time.monotonic() + 2 * SOON_S
    while left := [found for machine in cluster.machines for found in left_on(machine)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    for machine in cluster.machines:
        # The boot program first, as it starts a worker that has ended again.
        for pid in [*processes_on(machine, "--provision_endpoint="), *workers_on(machine)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def restore(cluster):
    """Start the TaskManagers that tests have killed, and wait until nothing is left on the machines."""
    for number in range(len(cluster.machines)):
        if number not in cluster._task_managers:
            cluster.start_task_manager(number)
    cluster.wait_until(lambda: cluster.get("/overview")["taskmanagers"] == len(cluster.machines), SOON_S)
    wait_until_clean(cluster)


@pytest.fixture
def cluster_directory(cluster):
    """Give a directory of the test that all machines see; nothing is left in its `spool`, nor on a machine."""
    made = cluster.make_shared_directory()
    (made / "spool").mkdir()
    (made / "spool").chmod(0o777)
    yield made
    restore(cluster)
    assert os.listdir(made / "spool") == []


def as_dict(row):
    """Return an output row as a dict; dicts stay as they are."""
    return row._asdict() if hasattr(row, "_asdict") else row


class BatchJob:
    """A bounded pipeline on the cluster, whose outputs are written to the shared directory.

    Args:
      cluster: where it runs.
      build: makes the PCollection of its outputs from the pipeline.
      parallelism: of the job.
      options: further pipeline options.
    """

    def __init__(self, cluster, build, *, parallelism=4, options=()):
        self.cluster = cluster
        self._outputs = cluster.make_shared_directory()
        arguments = [f"--job_endpoint={cluster.endpoint}", *cluster.options(parallelism), *options]
        pipeline = beam.Pipeline(runner="PortableRunner", options=PipelineOptions(arguments))
        collections = build(pipeline)
        if isinstance(collections, beam.PCollection):
            collections = {"good": collections}
        for tag, collection in collections.items():
            directory = self._outputs / tag
            directory.mkdir()
            directory.chmod(0o777)
            _ = collection | f"Save {tag}" >> beam.ParDo(SaveOutputs(str(directory)))
        known = set(cluster.jobs())
        self.result = pipeline.run()
        cluster.wait_until(lambda: set(cluster.jobs()) - known or self.result.state == "FAILED", LONG_S)
        (self.id,) = set(cluster.jobs()) - known

    def wait(self, timeout_s=LONG_S):
        """Wait for the end; raise the job's error."""
        self.result.wait_until_finish(timeout_s * 1000)
        assert self.result.state == "DONE", self.result.state

    def rows(self, tag="good"):
        """Return the output rows of a tag by now."""
        return [output.row for output in _load(self._outputs / tag)]

    def counter(self, name):
        """Return the value of one of the transform's counters."""
        found = self.result.metrics().query()["counters"]
        return sum(entry.result for entry in found if entry.key.metric.name == name)

    def rows_per_subtask(self, vertex):
        """Return how many elements each subtask of a vertex has read.

        Args:
          vertex: part of its name.
        """
        (found,) = [entry for entry in self.cluster.get(f"/jobs/{self.id}")["vertices"] if vertex in entry["name"]]
        details = self.cluster.get(f"/jobs/{self.id}/vertices/{found['id']}")
        return [subtask["metrics"]["read-records"] for subtask in details["subtasks"]]

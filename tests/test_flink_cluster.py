"""Streams on a Flink cluster of two machines: restores, moved keys, kills, drain and cancel (`make test-cluster`)."""

from __future__ import annotations

import collections
import os
import pathlib
import signal
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows, GlobalWindows

from beam_tfscript import RunTFScript
from tests.cluster_jobs import CUT_S, LONG_S, SOON_S, restore, scripts_on, workers_on
from tests.running import SaveOutputs, _load, script
from tests.ticks import Ticks
from tests.unbounded import OUTPUT, Streamed
from tests.without_tensorflow import BLOCKED

# Beam keeps connections to the job server.
pytestmark = [pytest.mark.job_server, pytest.mark.tensorflow, pytest.mark.timeout(900)]
CHECKPOINTS = [
    "--streaming", "--checkpointing_interval=500", "--finish_bundle_before_checkpointing",
    "--number_of_execution_retries=5", "--execution_retry_delay=500",
]  # fmt: skip
FIRST, SECOND = list(range(1, 11)), list(range(11, 21))
GLOBAL, FIXED = beam.WindowInto(GlobalWindows()), beam.WindowInto(FixedWindows(100))


class Note(beam.DoFn):
    """Passes rows on, and notes each in a file: what is noted twice, the source has given twice."""

    def __init__(self, path):
        self._path = path

    def process(self, row):
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(descriptor, f"{row['id']}\n".encode())
        os.close(descriptor)
        yield row


class Job:
    """A job on the cluster whose source gives ten rows, waits until it is told to go on, and gives ten more."""

    def __init__(self, cluster, transform, window, directory, *, parallelism=2, options=()):
        self.cluster = cluster
        self.directory = pathlib.Path(directory)
        self._go = self.directory / "go"
        self._notes = self.directory / "notes"
        self._outputs = self.directory / "rows"
        self._outputs.mkdir(exist_ok=True)
        self._outputs.chmod(0o777)
        arguments = [f"--job_endpoint={cluster.endpoint}", *cluster.options(parallelism), *CHECKPOINTS, *options]
        pipeline = beam.Pipeline(runner="PortableRunner", options=PipelineOptions(arguments))
        _ = (
            pipeline
            | Ticks([(len(FIRST), str(self._go)), (len(FIRST) + len(SECOND), None)])
            | "Note" >> beam.ParDo(Note(str(self._notes))).with_output_types(dict)
            | "Window" >> window
            | "Script" >> transform
            | "Seen" >> beam.Map(lambda row: {**row._asdict(), "seen": time.time()})
            | "Save" >> beam.ParDo(SaveOutputs(str(self._outputs)))
        )
        known = set(cluster.jobs())
        self.result = pipeline.run()
        cluster.wait_until(lambda: set(cluster.jobs()) - known or self.result.state == "FAILED", LONG_S)
        (self.id,) = set(cluster.jobs()) - known

    def noted(self):
        """Row -> how often the source has given it."""
        text = self._notes.read_text() if self._notes.exists() else ""
        return collections.Counter(int(line) for line in text.split())

    def outputs(self):
        return Streamed({"rows": _load(self._outputs), "counted": []})

    def status(self):
        return self.cluster.jobs()[self.id]

    def wait_for_outputs(self, ids):
        self.cluster.wait_until(lambda: set(ids) <= set(self.outputs().ids()), LONG_S)

    def wait_for_checkpoint(self):
        """Waits for one that has begun from here on."""
        done = self.cluster.completed_checkpoints(self.id)
        self.cluster.wait_until(lambda: self.cluster.completed_checkpoints(self.id) >= done + 2, SOON_S)

    def wait_until_restored(self):
        """Waits until the job runs again."""
        self.cluster.wait_until(lambda: self.cluster.restored(self.id) is not None, LONG_S)
        self.cluster.wait_until(lambda: self.status() == "RUNNING", LONG_S)

    def go_on_to_the_end(self):
        """Let the source give the rest, and drain the job when all of it is out: a source of ticks does not end."""
        self._go.touch()
        self.wait_for_outputs(SECOND)
        self.cluster.stop(self.id, drain=True)
        self.wait_until_ended()

    def wait_until_ended(self, status="FINISHED"):
        self.cluster.wait_until(lambda: self.status() in ("FINISHED", "FAILED", "CANCELED"), LONG_S)
        assert self.status() == status


@pytest.fixture
def job(cluster):
    """Starts jobs; none runs on, and nothing is left on the machines."""
    made = []

    def start(transform, window=FIXED, **arguments):
        directory = arguments.pop("directory", None) or cluster.make_shared_directory()
        made.append(Job(cluster, transform, window, directory, **arguments))
        return made[-1]

    yield start
    for running in made:
        if running.status() not in ("FINISHED", "FAILED", "CANCELED"):
            cluster.cancel(running.id)
    restore(cluster)


@pytest.fixture
def traced():
    def make(entry="trace", *, feed="stream", **arguments):
        # Without TensorFlow where the feed needs none.
        params = {"raw": feed != "dataset", "n": 1, **arguments.pop("params", {})}
        if feed != "dataset":
            arguments["env"] = {"PYTHONPATH": BLOCKED}
        if feed != "bundles":
            arguments["num_workers"] = 4
        if feed == "stream":
            arguments["poll_interval"] = 0.2
        return RunTFScript(
            script("streams.py"), OUTPUT, input_schema="id string", entry=entry, user_params=params, feed=feed,
            **arguments,
        )  # fmt: skip

    return make


def check(running, replay):
    """Every row came out; without replay once, and nothing was given twice by the source before the checkpoint."""
    noted, ids = running.noted(), running.outputs().ids()
    assert [noted[row] for row in FIRST] == [1] * len(FIRST), "the job has started from scratch"
    if replay:
        assert set(ids) == {*FIRST, *SECOND}
    else:
        assert ids == [*FIRST, *SECOND]


@pytest.mark.parametrize(("feed", "replay"), [("stream", False), ("bundles", None)])
def test_job_goes_on_from_a_checkpoint_when_a_task_manager_is_killed(cluster, job, traced, feed, replay):
    running = job(traced(feed=feed, replay=replay))
    running.wait_for_outputs(FIRST)
    running.wait_for_checkpoint()
    workers = workers_on(cluster.machines[0])
    assert workers
    cluster.kill_task_manager(0)
    # Nobody tells them to end: each must see that its TaskManager is gone.
    cluster.wait_until(lambda: not workers.keys() & workers_on(cluster.machines[0]).keys(), SOON_S)
    running.wait_until_restored()
    running.go_on_to_the_end()
    check(running, replay)


@pytest.mark.parametrize(("feed", "replay"), [("stream", True), ("stream", False), ("bundles", None)])
def test_job_goes_on_from_a_checkpoint_when_an_sdk_worker_is_killed(cluster, job, traced, feed, replay):
    running = job(traced(feed=feed, replay=replay))
    running.wait_for_outputs(FIRST)
    running.wait_for_checkpoint()
    killed = workers_on(cluster.machines[0])
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    running.wait_until_restored()
    running.go_on_to_the_end()
    check(running, replay)


@pytest.mark.parametrize(("feed", "replay"), [("stream", True), ("bundles", None)])
def test_stream_goes_on_when_the_network_was_cut(cluster, job, traced, feed, replay):
    """The machine that is cut off ends its share of the job by itself, as the other goes on with all of it."""
    running = job(traced(feed=feed, replay=replay))
    running.wait_for_outputs(FIRST)
    running.wait_for_checkpoint()
    with cluster.machines[0].without_network():
        begin = time.monotonic()
        running.wait_until_restored()
        cluster.wait_until(lambda: not scripts_on(cluster.machines[0]), CUT_S)
        time.sleep(max(0.0, begin + CUT_S - time.monotonic()))
    cluster.wait_until(lambda: cluster.get("/overview")["taskmanagers"] == len(cluster.machines), SOON_S)
    running.go_on_to_the_end()
    check(running, replay)


def test_stream_goes_on_when_script_processes_are_killed(cluster, job, traced):
    running = job(traced(replay=False))
    running.wait_for_outputs(FIRST)
    for machine in cluster.machines:
        for pid in scripts_on(machine):
            os.kill(pid, signal.SIGKILL)
    running.go_on_to_the_end()
    assert cluster.restored(running.id) is None
    check(running, replay=False)


@pytest.mark.parametrize(("replay", "before", "after"), [(True, 2, 1), (False, 2, 4)])
def test_keys_move_with_a_savepoint_to_other_workers(cluster, job, traced, replay, before, after):
    first = job(traced(replay=replay), parallelism=before)
    first.wait_for_outputs(FIRST)
    savepoint = cluster.stop(first.id, drain=False)
    first.wait_until_ended()
    second = job(
        traced(replay=replay), parallelism=after, options=[f"--savepoint_path={savepoint}"], directory=first.directory
    )
    second.wait_until_restored()
    second.go_on_to_the_end()
    check(second, replay)


@pytest.mark.parametrize(
    ("feed", "window"), [("stream", FIXED), ("stream", GLOBAL), ("bundles", FIXED), ("dataset", FIXED)],
    ids=["stream", "stream in the global window", "bundles", "dataset"],
)  # fmt: skip
def test_drain_gives_out_what_has_come(cluster, job, traced, feed, window):
    running = job(traced(feed=feed), window)
    cluster.wait_until(lambda: len(running.noted()) == len(FIRST), LONG_S)
    cluster.stop(running.id, drain=True)
    running.wait_until_ended()
    outputs = running.outputs()
    assert set(outputs.ids()) == set(FIRST)
    if feed != "bundles":
        # Every run has seen the end of its feed.
        assert sum(end["place"] for end in outputs.at(id="end")) == len(FIRST)


@pytest.mark.parametrize(("feed", "entry"), [("stream", "trace"), ("stream", "keeps_from"), ("bundles", "keeps_from")])
def test_cancel_ends_the_processes(cluster, job, traced, feed, entry):
    noted = cluster.make_shared_directory() / "noted"
    params = {"id": "3", "noted": str(noted)}
    running = job(traced(entry, feed=feed, params=params))
    if entry == "trace":
        running.wait_for_outputs(FIRST)
    else:  # with a script that is at a row
        cluster.wait_until(noted.exists, LONG_S)
    begin = time.monotonic()
    cluster.cancel(running.id)
    running.wait_until_ended("CANCELED")
    cluster.wait_until(lambda: not any(scripts_on(machine) for machine in cluster.machines), SOON_S)
    assert time.monotonic() - begin < SOON_S

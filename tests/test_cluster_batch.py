"""Batch jobs on a Flink cluster of two machines that share one directory: every feed, files, shards and faults."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import pathlib
import sys
import time

import apache_beam as beam
import pytest

from beam_tfscript import RunTFScript, TrainTFScript
from tests.cluster_jobs import CUT_S, LONG_S, RESTARTS, BatchJob, as_dict, restore, run_cluster
from tests.engines.tools import BUILD
from tests.environments import pack_python, write_wheel
from tests.running import script
from tests.training import LINE, POINTS, read_row
from tests.without_tensorflow import BLOCKED

# Beam keeps connections to the job server.
pytestmark = [pytest.mark.job_server, pytest.mark.tensorflow, pytest.mark.timeout(900)]
NUM_ROWS = 400
WHERE = "id string, shard bigint, attempt bigint, machine string"
FILES = "id string, digest string, python string, tiny string, machine string"
MACHINES = {"machine-1", "machine-2"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start a cluster that restarts batch jobs."""
    yield from run_cluster(tmp_path_factory, RESTARTS)


@pytest.fixture
def job(cluster):
    """Run jobs; nothing is left on the machines."""

    def start(transform, rows=NUM_ROWS, **arguments):
        return BatchJob(cluster, lambda pipeline: outputs_of(pipeline, transform, rows), **arguments)

    yield start
    restore(cluster)


def outputs_of(pipeline, transform, rows):
    """Return the outputs as dicts, by their tag."""
    made = pipeline | beam.Create(range(rows)) | beam.Map(lambda number: {"id": f"row-{number:08d}"})
    result = made | "Script" >> transform
    collections_ = {"good": result} if isinstance(result, beam.PCollection) else result._asdict()
    return {tag: found | f"Dict {tag}" >> beam.Map(as_dict) for tag, found in collections_.items()}


def run_of(entry="where", schema=WHERE, **arguments):
    arguments = {"input_schema": "id string", "env": {"PYTHONPATH": BLOCKED}, **arguments}
    return RunTFScript(arguments.pop("file", script("machines.py")), schema, entry=entry, **arguments)


def ids(rows):
    return sorted(row["id"] for row in rows)


EXPECTED = [f"row-{number:08d}" for number in range(NUM_ROWS)]


@pytest.mark.parametrize(
    ("feed", "parallelism"), [("dataset", 2), ("dataset", 4), ("bundles", 4), ("stream", 4)]
)  # fmt: skip
def test_each_row_comes_once_and_both_machines_work(job, feed, parallelism):
    shards = {} if feed == "bundles" else {"num_workers": parallelism}
    running = job(run_of(feed=feed, **shards), parallelism=parallelism)
    running.wait()
    rows = running.rows()
    assert ids(rows) == EXPECTED
    assert {row["machine"] for row in rows} == MACHINES
    if shards:
        # As many shards as subtasks: each subtask has one, and so each machine half of them.
        machines = dict(sorted({row["shard"]: row["machine"] for row in rows}.items()))
        assert collections.Counter(machines.values()) == dict.fromkeys(MACHINES, parallelism // 2)
        report(feed, parallelism, machines)


def report(feed, parallelism, machines):
    """Add to the report of which shard ran where, build/cluster-report.jsonl."""
    with open(BUILD / "cluster-report.jsonl", "a") as file:
        file.write(json.dumps({"feed": feed, "parallelism": parallelism, "machine of shard": machines}) + "\n")


@pytest.mark.parametrize(("num_shards", "parallelism"), [(4, 2), (4, 4), (16, 4)])
def test_shards_are_spread_evenly_over_the_subtasks(job, parallelism, num_shards):
    running = job(run_of(num_workers=num_shards, transport="shuffle"), parallelism=parallelism)
    running.wait()
    counts = running.rows_per_subtask("Save good")
    assert sum(counts) == num_shards and max(counts) - min(counts) <= 1, counts


def test_killed_scripts_are_repeated(job):
    running = job(run_of("dies_first", num_workers=4, max_attempts=2))
    running.wait()
    assert ids(running.rows()) == EXPECTED
    assert {row["attempt"] for row in running.rows()} == {2}


def test_rows_that_do_not_fit_go_to_the_dead_letters(cluster, job):
    def build(pipeline):
        rows = pipeline | beam.Create(range(NUM_ROWS)) | beam.Map(lambda n: {"id": f"row-{n:08d}" if n % 100 else n})
        good, bad = rows | "Script" >> run_of(num_workers=4).with_exception_handling()
        return {"good": good | beam.Map(as_dict), "bad": bad | "Bad" >> beam.Map(repr)}

    running = BatchJob(cluster, build)
    running.wait()
    assert ids(running.rows()) == [name for number, name in enumerate(EXPECTED) if number % 100]
    assert len(running.rows("bad")) == NUM_ROWS / 100


def test_training_publishes_its_model_in_the_shared_directory(cluster, job):
    directory = cluster.make_shared_directory()
    train = TrainTFScript(script("train.py"), str(directory / "models"), input_schema=LINE, entry="keras_fit")
    running = BatchJob(
        cluster, lambda pipeline: pipeline | beam.Create(POINTS) | train | beam.Map(lambda row: row._asdict())
    )
    running.wait()
    (row,) = map(read_row, running.rows())
    assert row["dataset_lengths"] == [len(POINTS)]
    assert row["uri"] == str(directory / "models" / "1") and "saved_model.pb" in os.listdir(row["uri"])
    assert row["metrics"]["step"] == 4 and row["metrics"]["loss"] < 10


def test_files_of_the_submitter_reach_both_machines(job, tmp_path, monkeypatch):
    """No machine sees the directory of the script, the file, the archive and the wheels."""
    monkeypatch.chdir(tmp_path)
    content = os.urandom(10 << 20)
    pathlib.Path("words.bin").write_bytes(content)
    pathlib.Path("scores.py").write_text(pathlib.Path(script("machines.py")).read_text())
    pack_python(tmp_path / "python.tar.gz")
    transform = run_of(
        "files", FILES, file="scores.py", user_files=["words.bin"], python_env="python.tar.gz",
        user_params={"file": "words.bin"}, num_workers=4,
    )  # fmt: skip
    running = job(transform)
    running.wait()
    rows = running.rows()
    assert ids(rows) == EXPECTED
    assert {row["digest"] for row in rows} == {hashlib.sha256(content).hexdigest()}
    assert {row["machine"] for row in rows} == MACHINES
    # An interpreter on each machine, and neither is the submitter's.
    assert len({row["python"] for row in rows}) == 2 and sys.prefix not in {row["python"] for row in rows}


def test_requirements_are_installed_on_both_machines(cluster, job):
    wheels = cluster.make_shared_directory()
    lines = ["--no-index", write_wheel(wheels, "tiny"), "tiny==1.0"]
    transform = run_of("files", FILES, requirements=lines, user_params={"file": "machines.py"}, num_workers=4)
    running = job(transform)
    running.wait()
    rows = running.rows()
    assert ids(rows) == EXPECTED
    assert {(row["tiny"], row["machine"]) for row in rows} == {("1.0", machine) for machine in MACHINES}
    assert len({row["python"] for row in rows}) == 2


def left(directory):
    return [os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names]


def test_spooled_rows_are_read_on_the_other_machine_and_removed(cluster, job):
    spool = cluster.make_shared_directory()
    running = job(run_of(num_workers=4, transport="files", spool_dir=str(spool)))
    running.wait()
    assert ids(running.rows()) == EXPECTED
    assert {row["machine"] for row in running.rows()} == MACHINES
    assert running.counter("bytes_spooled") > 0
    assert not left(spool)


def test_cancelled_job_leaves_no_spooled_rows(cluster, job):
    spool, directory = cluster.make_shared_directory(), cluster.make_shared_directory()
    params = {"directory": str(directory), "go": str(directory / "go")}
    running = job(run_of("waits", num_workers=4, transport="files", spool_dir=str(spool), user_params=params))
    cluster.wait_until(lambda: list(directory.glob("reached-*")), LONG_S)
    assert left(spool)
    cluster.cancel(running.id)
    # Flink's batch engine waits for the bundles that it has begun.
    (directory / "go").touch()
    with contextlib.suppress(RuntimeError):  # the state, as an error
        running.result.wait_until_finish(LONG_S * 1000)
    # Beam's runner takes the end of a cancelled batch job for a failure.
    assert running.result.state in ("CANCELLED", "FAILED")
    assert not left(spool)


@pytest.mark.parametrize("transport", ["shuffle", "files"])
def test_job_restarts_when_a_task_manager_is_killed(cluster, job, transport):
    """Flink's batch engine begins such a job anew: rows come at least once."""
    spool, directory = cluster.make_shared_directory(), cluster.make_shared_directory()
    params = {"directory": str(directory), "go": str(directory / "go")}
    running = job(run_of("waits", num_workers=4, transport=transport, spool_dir=str(spool), user_params=params))
    cluster.wait_until(lambda: {path.name[8:] for path in directory.glob("reached-*")} == MACHINES, LONG_S)
    cluster.kill_task_manager(0)
    (directory / "go").touch()
    cluster.start_task_manager(0)
    running.wait()
    assert sorted(set(ids(running.rows()))) == EXPECTED
    assert not left(spool)


def test_batch_job_ends_though_the_network_was_cut(cluster, job):
    """All machines are needed: the job waits for the one that was cut off, and begins anew."""
    spool, directory = cluster.make_shared_directory(), cluster.make_shared_directory()
    params = {"directory": str(directory), "go": str(directory / "go")}
    running = job(run_of("waits", num_workers=4, transport="files", spool_dir=str(spool), user_params=params))
    cluster.wait_until(lambda: {path.name[8:] for path in directory.glob("reached-*")} == MACHINES, LONG_S)
    with cluster.machines[0].without_network():
        (directory / "go").touch()
        time.sleep(CUT_S)
    running.wait()
    assert cluster.get(f"/jobs/{running.id}/exceptions")["exceptionHistory"]["entries"], "nothing was cut"
    assert sorted(set(ids(running.rows()))) == EXPECTED
    assert not left(spool)

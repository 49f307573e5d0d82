"""Behavior of Beam's Spark runner that pipelines must know of, on a Spark in one JVM (`make test-spark`)."""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import pathlib
import subprocess
import sys
import time
import types
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.transforms.periodicsequence import PeriodicImpulse

from beam_tfscript import RunTFScript
from tests.engines import spark
from tests.engines.server import started
from tests.running import Runner, script
from tests.without_tensorflow import blocked, ids, run_of

ROOT = pathlib.Path(__file__).parents[1]


@contextlib.contextmanager
def spark_of(directory, **arguments):
    """Options for a job server with other arguments than that of the session, while the block lasts."""
    server = types.SimpleNamespace(**vars(spark))
    server.command = functools.partial(spark.command, **arguments)
    with started(server, directory) as address:
        yield f"--job_endpoint={address}", "--environment_type=LOOPBACK"


@pytest.fixture(scope="module")
def spark_that_repeats(engine, tmp_path_factory):
    """A Spark that tries a task three times; a cluster does so four times."""
    with spark_of(tmp_path_factory.mktemp("spark"), master="local[2,3]") as options:
        yield options


@pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
def test_bundle_that_spark_repeats_gives_its_rows_once(spark_that_repeats, runner, tmp_path, feed):
    marks = tmp_path / "marks"
    params = {"at": "30", "times": 2, "marks": str(marks), "how": "kill", "n": 8}
    transform = run_of("echo_all", feed, params=params, env=blocked(tmp_path), max_attempts=1)
    rows = Runner("spark", tmp_path, spark_that_repeats).run(transform, ids(60))
    assert sorted(int(row["id"]) for row in rows) == list(range(60))
    assert len(marks.read_text()) == 3


class Branches(NamedTuple):
    """Runs whose rows came out of two shuffles behind a script."""

    first: Any
    second: Any


class ShuffleTwice(beam.PTransform):
    """Shuffles the rows of a script twice, apart from each other."""

    def __init__(self, transform):
        super().__init__()
        self._transform = transform

    def expand(self, pipeline):
        rows = pipeline | self._transform | beam.Map(lambda row: (row.number, (row.run, row.ballast)))
        return Branches(
            *(
                rows
                | f"Shuffle {name}" >> beam.GroupByKey()
                | f"Run of {name}" >> beam.FlatMapTuple(lambda number, rows: [run for run, _ in rows])
                for name in Branches._fields
            )
        )


@pytest.mark.parametrize("on_disk", [True, False])
def test_script_runs_again_where_memory_is_short_unless_its_rows_are_on_disk(
    runner, tmp_path, tmp_path_factory, on_disk
):
    """Two shuffles behind a script are two jobs for Spark, which keeps the rows that both need, or makes them again."""
    rows, row_bytes = 1000, 50_000
    transform = RunTFScript(
        script("large_rows.py"), "number bigint, run string, ballast binary",
        user_params={"rows": rows, "bytes": row_bytes}, env=blocked(tmp_path),
    )  # fmt: skip
    kryo = "-Dspark.serializer=org.apache.spark.serializer.KryoSerializer"
    options = ["--storage_level=MEMORY_AND_DISK"] if on_disk else []
    with spark_of(tmp_path_factory.mktemp("spark"), jvm=("-Dspark.memory.fraction=0.05", kryo)) as server:
        short_of_memory = Runner("spark", tmp_path, server)
        outputs = short_of_memory.outputs(ShuffleTwice(transform), options=options)
    first, second = (collections.Counter(output.row for output in outputs[name]) for name in Branches._fields)
    assert first.total() == second.total() == rows
    assert (first == second) == on_disk
    assert short_of_memory.metrics["runs"] == (1 if on_disk else 2)


def test_unbounded_input_fails_a_job_whose_runner_was_not_known(runner, tmp_path):
    """By `PortableRunner` alone, nobody can tell while the pipeline is built."""

    def tick(_):
        return {"id": str(time.time())}

    class Ticks(beam.PTransform):
        def expand(self, pipeline):
            ticks = pipeline | PeriodicImpulse(fire_interval=1) | beam.Map(tick).with_output_types(dict)
            return ticks | run_of("echo", "bundles", env=blocked(tmp_path))

    with pytest.raises(RuntimeError, match="does not have a registered bundle checkpoint handler"):
        runner.run(Ticks())


def test_large_files_are_not_taken_for_the_runners_own_jars(engine, tmp_path):
    """Spark would send them to its executors in place of the jars, by an option of the same name."""
    (tmp_path / "large.bin").write_bytes(bytes(2 << 20))
    pipeline = beam.Pipeline(
        runner="PortableRunner", options=PipelineOptions([engine[1][0], "--environment_type=DOCKER"])
    )
    _ = pipeline | RunTFScript(script("echo.py"), "id string", [str(tmp_path / "large.bin")])
    assert len(pipeline.options.view_as(SetupOptions).files_to_stage) == 1
    submitted = PortableRunner().create_job_service(pipeline.options).get_pipeline_options()
    assert "beam:option:environment_type:v1" in submitted
    assert submitted["beam:option:files_to_stage:v1"] is None


@pytest.mark.tensorflow
def test_demo_runs_by_the_command_of_the_docs(engine, tmp_path):
    """With jars that are here in place of the one that `SparkRunner` downloads."""
    spark.write_jar(tmp_path / "job_server.jar")
    done = subprocess.run(
        [
            sys.executable, "-m", "pipelines.digits", f"--output={tmp_path / 'out'}", "--runner=SparkRunner",
            "--spark_version=3", "--spark_master_url=local[2]", f"--spark_job_server_jar={tmp_path / 'job_server.jar'}",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    lines = (tmp_path / "out" / "predictions.jsonl").read_text("utf-8").splitlines()
    predictions = [json.loads(line) for line in lines]
    assert len({row["id"] for row in predictions}) == len(predictions) == 599
    assert sum(row["label"] == row["predicted"] for row in predictions) / 599 >= 0.95

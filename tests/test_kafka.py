"""Kafka's records through a script on Flink, and its rows back into Kafka (`make test-flink`)."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript.worker.pool import get_pool
from pipelines import stream_kafka
from tests.engines import flink_with_kafka
from tests.engines.server import started
from tests.engines.tools import ToolMissing
from tests.running import script
from tests.servers import kafka
from tests.unbounded import OUTPUT
from tests.without_tensorflow import blocked

pytestmark = pytest.mark.job_server

ROOT = pathlib.Path(__file__).parents[1]
WAIT_S = 120
CHECKPOINTS = [
    "--streaming", "--checkpointing_interval=500", "--finish_bundle_before_checkpointing",
    "--number_of_execution_retries=5", "--execution_retry_delay=500",
]  # fmt: skip
FIRST, SECOND, THIRD = list(range(1, 11)), list(range(11, 21)), list(range(21, 31))


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """Address of a Kafka."""
    try:
        kafka.build()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    with started(kafka, tmp_path_factory.mktemp("kafka")) as address:
        yield address


class Flink:
    """A Flink that runs Beam's Kafka source itself.

    Attributes:
      options: pipeline options of a job.
      expansion_service: path of the jar that translates steps in Java.
    """

    def __init__(self, address, directory):
        self.options = [f"--job_endpoint={address}", "--environment_type=LOOPBACK", *flink_with_kafka.OPTIONS]
        self.expansion_service = str(directory / "expansion.jar")
        flink_with_kafka.write_expansion_service(pathlib.Path(self.expansion_service))
        self._log = directory / "server.log"

    def wait_for_checkpoint(self):
        """Wait for one that has begun from here on."""
        done = self._checkpoints()
        wait_until(lambda: self._checkpoints() >= done + 2)

    def restores(self):
        """Return how often jobs went back to a checkpoint."""
        return len(re.findall("Restoring job .* from Checkpoint", self._log.read_text(errors="replace")))

    def _checkpoints(self):
        return len(re.findall("Completed checkpoint", self._log.read_text(errors="replace")))


@pytest.fixture(scope="module")
def flink(tmp_path_factory):
    try:
        flink_with_kafka.build()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    directory = tmp_path_factory.mktemp("flink")
    with started(flink_with_kafka, directory) as address:
        yield Flink(address, directory)


def wait_until(is_true):
    deadline = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < deadline, f"not so after {WAIT_S} s"
        time.sleep(0.1)


def records(numbers):
    return [json.dumps({"id": str(number)}) for number in numbers]


class Job:
    """A job on Flink between two topics, whose script raises at the row 25 more often than it may.

    Attributes:
      pids: directory with a file per script process that has rows.
    """

    def __init__(self, broker, flink, reader, directory, *, topics, feed, **arguments):
        self.pids = directory / "pids"
        self.pids.mkdir()
        self._reader = reader
        options = stream_kafka.make_parser().parse_args(
            [
                f"--bootstrap_servers={broker}", f"--topic={topics[0]}", f"--output_topic={topics[1]}",
                f"--script={script('streams.py')}", "--input_schema=id string", f"--output_schema={OUTPUT}",
                f"--feed={feed}", "--start=earliest", "--java_steps=embedded", "--window=2",
                f"--expansion_service={flink.expansion_service}",
            ]
        )  # fmt: skip
        pipeline = beam.Pipeline(runner="PortableRunner", options=PipelineOptions([*flink.options, *CHECKPOINTS]))
        params = {"id": "25", "times": 3, "marks": str(directory / "marks"), "raw": True, "pids": str(self.pids)}
        stream_kafka.build_pipeline(
            pipeline,
            options,
            entry="raises_at",
            user_params=params,
            max_attempts=2,
            env=blocked(directory),
            **arguments,
        )
        self._result = pipeline.run()

    def rows(self):
        return [json.loads(value) for value in self._reader.values]

    def counts(self):
        """Row -> how often it came out."""
        return collections.Counter(int(row["id"]) for row in self.rows() if row["id"] != "end")

    def wait_for(self, numbers):
        wait_until(lambda: set(numbers) <= self.counts().keys())

    def kill_scripts(self):
        """Kill the script processes that have had rows."""
        paths = list(self.pids.iterdir())
        assert paths
        for path in paths:
            path.unlink()
            os.kill(int(path.name), signal.SIGKILL)

    def cancel(self):
        self._result.cancel()
        # As a worker of its own process would end with its job.
        get_pool().shutdown()


@pytest.mark.cold
@pytest.mark.parametrize(("feed", "arguments"), [("bundles", {}), ("stream", {"replay": False, "poll_interval": 0.2})])
def test_each_record_is_accounted_for_after_a_kill_and_after_a_restart(broker, flink, tmp_path, feed, arguments):
    names = f"{feed}-in", f"{feed}-out"
    with kafka.topics(broker, *names) as (writer, reader):
        writer.write(records(FIRST))
        job = Job(broker, flink, reader, tmp_path, topics=names, feed=feed, **arguments)
        try:
            job.wait_for(FIRST)
            job.kill_scripts()
            writer.write(records(SECOND))
            job.wait_for(SECOND)
            flink.wait_for_checkpoint()
            assert job.counts() == dict.fromkeys([*FIRST, *SECOND], 1)
            before = flink.restores()
            writer.write(records(THIRD))
            job.wait_for(THIRD)
            assert flink.restores() > before
        finally:
            job.cancel()
    # The job went on from the offsets in its last checkpoint.
    counts = job.counts()
    assert {number: counts[number] for number in [*FIRST, *SECOND]} == dict.fromkeys([*FIRST, *SECOND], 1)
    if feed == "stream":
        # The source's watermark ends windows.
        ends = [row["place"] for row in job.rows() if row["id"] == "end"]
        assert sum(ends) >= len(FIRST)


@pytest.mark.tensorflow
def test_command_of_the_docs(broker, flink, tmp_path):
    (tmp_path / "double.py").write_text(
        "import tensorflow as tf\n"
        "def main(config):\n"
        "    for batch in config.batches(64):\n"
        "        config.write_batch(id=batch['id'], y=tf.constant(batch['x']) * 2)\n"
    )
    command = [
        sys.executable, "-m", "pipelines.stream_kafka", f"--bootstrap_servers={broker}", "--topic=doubled-in",
        "--output_topic=doubled-out", f"--script={tmp_path / 'double.py'}", "--input_schema=id string, x float",
        "--output_schema=id string, y float", "--feed=bundles", "--start=earliest", "--java_steps=embedded",
        f"--expansion_service={flink.expansion_service}", "--runner=PortableRunner", *flink.options,
    ]  # fmt: skip
    with kafka.topics(broker, "doubled-in", "doubled-out") as (writer, reader):
        writer.write(['{"id": "a", "x": 1.5}', "no JSON", '{"id": "b", "x": 4}'])
        with open(tmp_path / "log", "wb") as log:
            job = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(tmp_path)}
            )
        try:
            wait_until(lambda: len(reader.values) == 2 or job.poll() is not None)
        finally:
            job.kill()
            job.wait()
    rows = [json.loads(value) for value in reader.values]
    assert sorted((row["id"], row["y"]) for row in rows) == [("a", 3.0), ("b", 8.0)], (tmp_path / "log").read_text()[
        -3000:
    ]
    assert "a record is left out" in (tmp_path / "log").read_text()

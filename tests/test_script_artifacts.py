"""A large file of the submitting machine reaches workers that have nothing of it but the job, on a real engine.

The workers are started as in Beam's containers: by their boot program, which fetches the job's artifacts from the
engine's job server.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from beam_tfscript import RunTFScript
from tests.engines import beam_boot, flink, spark
from tests.engines.server import started
from tests.engines.tools import ToolMissing
from tests.running import Runner

# A worker takes seconds to start.
_ONE_WORKER = {"Flink": ("--parallelism=1",), "Spark": ("--environment_cache_millis=60000",)}
_CONTENT = os.urandom(1 << 20) * 3
_SCRIPT = """
import hashlib, os

def main(config):
    for batch in config.batches(100):
        found = [hashlib.sha256(open(name, 'rb').read()).hexdigest() for name in ('words.bin', 'folder/inner.bin')]
        config.write_batch(x=batch['x'], one=found[:1] * len(batch['x']), two=found[1:] * len(batch['x']))
"""


@pytest.fixture
def engine_with_boot(engine, tmp_path_factory, tmp_path, monkeypatch):
    """Pipeline options for an engine whose workers are started by the boot program, with a machine of their own."""
    try:
        engine.build()
        boot = beam_boot.find_boot()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    root = str(pathlib.Path(__file__).parent.parent)
    worker, cache = tmp_path_factory.mktemp("worker"), tmp_path_factory.mktemp("cache")
    variables = {
        "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
        "PYTHONPATH": root,
        "TMPDIR": str(worker),
    }
    # When a worker starts, all that was submitted is with the job server: the submitting machine's files go.
    command = worker / "boot"
    command.write_text(f'#!/bin/sh\nrm -rf {tmp_path}/given {cache}\nexec {boot} "$@" --semi_persist_dir={worker}\n')
    command.chmod(0o755)
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE", str(cache))
    with started(engine, tmp_path_factory.mktemp("engine")) as address:
        config = json.dumps({"command": str(command), "env": variables})
        yield (
            f"--job_endpoint={address}",
            "--environment_type=PROCESS",
            f"--environment_config={config}",
            *_ONE_WORKER[engine.NAME],
        )


@pytest.mark.builds
@pytest.mark.job_server
@pytest.mark.parametrize("engine", [flink, spark], ids=lambda engine: engine.NAME)
def test_large_local_files_travel_to_workers(engine, engine_with_boot, tmp_path):
    given = tmp_path / "given"
    (given / "folder").mkdir(parents=True)
    (given / "score.py").write_text(_SCRIPT)
    (given / "words.bin").write_bytes(_CONTENT)
    (given / "folder" / "inner.bin").write_bytes(_CONTENT[1:])
    transform = RunTFScript(
        str(given / "score.py"),
        "x float, one string, two string",
        [str(given / "words.bin"), str(given / "folder")],
        input_schema="x float",
    )
    rows = Runner(engine.NAME.lower(), tmp_path, engine_with_boot).run(transform, [{"x": 1.0}, {"x": 2.0}])
    assert not given.exists(), "no worker was started"
    hashes = {hashlib.sha256(content).hexdigest() for content in (_CONTENT, _CONTENT[1:])}
    assert sorted(row["x"] for row in rows) == [1.0, 2.0]
    assert {row["one"] for row in rows} | {row["two"] for row in rows} == hashes


def test_large_local_files_are_in_the_request_to_dataflow(tmp_path):
    submission = pytest.importorskip("tests.test_submission")
    (tmp_path / "words.bin").write_bytes(_CONTENT)
    job = submission.make_echo_job(user_files=[str(tmp_path / "words.bin")])
    (environment,) = job.proto_pipeline.components.environments.values()
    staged = {
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(item.role_payload).staged_name
        for item in environment.dependencies
    }
    assert f"beam_tfscript-{hashlib.sha256(_CONTENT).hexdigest()}" in staged
    assert job.proto_pipeline.ByteSize() < 100_000

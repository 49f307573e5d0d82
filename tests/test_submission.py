"""Job as the service sees it, and the needs of its workers: offline, without a service.

The job graph is the one that Dataflow would be sent. It is built without network and credentials, looked at, and
run here in a worker process that has nothing of the submitter's but the graph.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import re
import shlex
import socket
import sys

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.python_urns import SUBPROCESS_SDK
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.window import FixedWindows
from google.protobuf import json_format

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.cli.template_parameters import PARAMETERS
from pipelines import digits, stream_kafka
from tests.running import script

apiclient = pytest.importorskip("apache_beam.runners.dataflow.internal.apiclient", reason="needs apache-beam[gcp]")

ROOT = pathlib.Path(__file__).parent.parent
IMAGE = "registry.example/beam-tfscript:1"
OPTIONS = [
    "--runner=DataflowRunner",
    "--dry_run=True",
    "--no_auth",
    "--project=project-1",
    "--region=europe-west1",
    "--temp_location=gs://bucket-1/temp",
    "--sdk_location=container",
    f"--sdk_container_image={IMAGE}",
    "--experiments=use_runner_v2",
    "--machine_type=n2-highmem-4",
    "--disk_size_gb=100",
]
SCHEMA = "id string not null, x float not null"
ROWS = [{"id": str(i), "x": i / 2} for i in range(20)]
# A conservative limit; Dataflow documents its own in https://cloud.google.com/dataflow/quotas.
GRAPH_LIMIT_BYTES = 10_000_000
# Options of the runner, which Python's parser gets from the job server.
RUNNER_OPTIONS = {
    "finish_bundle_before_checkpointing", "checkpointing_interval", "number_of_execution_retries",
    "shutdown_sources_after_idle_ms",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_network():
    """Refuse look-ups of host names: without a network, each takes minutes to fail."""

    def refuse(host, *args, **kwargs):
        raise AssertionError(f"the job graph is built offline, but {host} was looked up")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", refuse)
        yield patched


@pytest.fixture
def allow_network(no_network):
    """Allow the network again, for tests that run a job over local connections."""
    no_network.undo()


def make_job(build, *options):
    """Return the job that Dataflow would be sent, for a pipeline whose steps `build` adds."""
    pipeline = beam.Pipeline(options=PipelineOptions([*OPTIONS, *options]))
    build(pipeline)
    return pipeline.run().job


def make_echo_job(*options, windows=None, **arguments):
    """Return a job of some rows through a test script."""
    given = {"main_script_file": script("echo.py"), "output_schema": SCHEMA, "input_schema": SCHEMA, **arguments}

    def build(pipeline):
        rows = pipeline | beam.Create(ROWS)
        if windows is not None:
            rows = rows | beam.WindowInto(windows)
        _ = rows | "Score" >> RunTFScript(**given) | beam.Map(str)

    return make_job(build, *options)


def steps(job):
    """Unique name -> step."""
    return {step.unique_name: step for step in job.proto_pipeline.components.transforms.values()}


def coder_text(job, collection_id):
    """Return the coder of a PCollection, such as `kv(varint, bytes)`."""
    components = job.proto_pipeline.components

    def text(coder_id):
        coder = components.coders[coder_id]
        name = coder.spec.urn.split(":")[2]
        parts = ", ".join(map(text, coder.component_coder_ids))
        return f"{name}({parts})" if parts else name

    return text(components.pcollections[collection_id].coder_id)


def only(values):
    (value,) = values
    return value


def shown(step):
    """Label -> value of a step's display data."""
    items = {}
    for item in step.display_data:
        payload = beam_runner_api_pb2.LabelledPayload.FromString(item.payload)
        items[payload.label] = getattr(payload, payload.WhichOneof("value"))
    return items


def test_service_sees_the_steps_by_their_names():
    found = steps(make_echo_job(num_workers=3))
    urns = {name: step.spec.urn for name, step in found.items() if name.startswith("Score/")}
    assert urns == {
        "Score/Chunk": "beam:transform:pardo:v1",
        "Score/GroupByShard": "beam:transform:group_by_key:v1",
        "Score/Run": "beam:transform:generic_composite:v1",
        "Score/Run/ParDo(RunShard)": "beam:transform:pardo:v1",
        "Score/RemoveSpool": "beam:transform:generic_composite:v1",
        "Score/RemoveSpool/WithGroup": "beam:transform:pardo:v1",
        "Score/RemoveSpool/Global": "beam:transform:window_into:v1",
        "Score/RemoveSpool/AllRuns": "beam:transform:group_by_key:v1",
        "Score/RemoveSpool/Remove": "beam:transform:pardo:v1",
    }
    assert len(found["Score"].subtransforms) == 4


def test_service_sees_three_steps_where_all_rows_are_shuffled():
    found = steps(make_echo_job(num_workers=3, transport="shuffle"))
    urns = {name: step.spec.urn for name, step in found.items() if name.startswith("Score/")}
    assert urns == {
        "Score/Chunk": "beam:transform:pardo:v1",
        "Score/GroupByShard": "beam:transform:group_by_key:v1",
        "Score/Run": "beam:transform:pardo:v1",
    }


@pytest.mark.parametrize("windows", [None, FixedWindows(10)], ids=["global", "windowed"])
def test_shuffle_has_keys_and_windows_that_every_runner_knows(windows):
    job = make_echo_job(num_workers=3, windows=windows, transport="shuffle")
    group, run = steps(job)["Score/GroupByShard"], steps(job)["Score/Run"]
    # A chunk is bytes to the runner, and the key is not: it is hashed.
    chunk = "tuple(varint, varint, bytes, string_utf8)"
    assert coder_text(job, only(group.inputs.values())) == f"kv(varint, {chunk})"
    assert coder_text(job, only(group.outputs.values())) == f"kv(varint, iterable({chunk}))"
    assert coder_text(job, only(run.outputs.values())) == "row"
    grouped = job.proto_pipeline.components.pcollections[only(group.inputs.values())]
    windowing = job.proto_pipeline.components.windowing_strategies[grouped.windowing_strategy_id]
    coder = job.proto_pipeline.components.coders[windowing.window_coder_id]
    assert coder.spec.urn in ("beam:coder:global_window:v1", "beam:coder:interval_window:v1")


def test_worker_needs_nothing_of_the_submitter_but_the_graph(allow_network, tmp_path, monkeypatch):
    mine, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    mine.mkdir()
    elsewhere.mkdir()
    source, words, output = mine / "count.py", mine / "words.txt", tmp_path / "output"
    source.write_text(
        "def main(config):\n"
        "    word = open('words.txt').read()\n"
        "    for batch in config.batches(100):\n"
        "        config.write_batch(id=batch['id'], word=[word] * len(batch['id']))\n"
    )
    words.write_text("found")

    def build(pipeline):
        _ = (
            pipeline
            | beam.Create(ROWS)
            | RunTFScript(str(source), "id string, word string", [str(words)], num_workers=2, input_schema=SCHEMA)
            | beam.Map(lambda row: f"{row.id} {row.word}")
            | beam.io.WriteToText(str(output), shard_name_template="")
        )

    graph = make_job(build).proto_pipeline
    source.unlink()
    words.unlink()
    worker = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
    for environment in graph.components.environments.values():
        environment.urn = SUBPROCESS_SDK
        environment.payload = f"cd {shlex.quote(str(elsewhere))} && exec {worker}".encode()
        del environment.dependencies[:]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    FnApiRunner().run_via_runner_api(graph, PipelineOptions()).wait_until_finish()
    assert sorted(output.read_text().splitlines()) == sorted(f"{row['id']} found" for row in ROWS)
    assert not any(elsewhere.glob("beam_tfscript*"))


def test_job_page_shows_the_arguments():
    job = make_echo_job(num_workers=3, user_params={"threshold": 0.5}, shard_by="id")
    # Dataflow's submission rebuilds composites without their display data: it is the ParDo that shows it there.
    items = shown(steps(job)["Score/Run/ParDo(RunShard)"])
    assert items["main_script_file"] == "echo.py"
    assert items["feed"] == "dataset"
    assert items["num_workers"] == 3
    assert items["input_schema"] == items["output_schema"] == "id string not null, x float not null"
    assert items["user_params"] == '{"threshold": 0.5}'
    assert items["shard_by"] == "id"
    assert "selected_cols" not in items


def test_doesnt_show_the_values_of_env_anywhere_on_the_job_page():
    job = make_echo_job(env={"MODEL_TOKEN": "hush-1", "COLOR": "hush-2"})
    assert shown(steps(job)["Score/Run/ParDo(RunShard)"])["env"] == "COLOR, MODEL_TOKEN"
    for step in steps(job).values():
        assert "hush" not in str(step.display_data)
    assert "hush" not in json_format.MessageToJson(describe_environment(job)._pb)


def describe_environment(job):
    """Return the request's part about workers, as it would be sent with the staged graph."""
    return apiclient.Environment(
        packages=[],
        options=job.options,
        environment_version="8",
        proto_pipeline_staged_url="gs://bucket-1/temp/pipeline.pb",
        proto_pipeline=job.proto_pipeline,
    ).proto


def test_every_worker_runs_the_given_image_with_all_that_the_script_needs():
    job = make_echo_job()
    environment = only(job.proto_pipeline.components.environments.values())
    assert environment.urn == "beam:env:docker:v1"
    assert beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image == IMAGE
    staged = {
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(item.role_payload).staged_name
        for item in environment.dependencies
    }
    # Nothing is installed when a worker starts: no SDK, package or requirements file is staged.
    assert staged <= {"pickled_main_session", "submission_environment_dependencies.txt"}
    pool = only(describe_environment(job).worker_pools)
    assert pool.worker_harness_container_image == IMAGE
    assert [image.container_image for image in pool.sdk_harness_container_images] == [IMAGE]
    assert (pool.machine_type, pool.disk_size_gb) == ("n2-highmem-4", 100)


def test_graph_with_a_user_file_of_a_mebibyte_is_small_enough_for_a_service(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes_that_dont_compress(1 << 20))
    size = make_echo_job(user_files=[str(file)]).proto_pipeline.ByteSize()
    assert 1 << 20 < size < GRAPH_LIMIT_BYTES


def test_larger_user_files_stay_out_of_the_graph(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes_that_dont_compress((1 << 20) + 1))
    assert make_echo_job(user_files=[str(file)]).proto_pipeline.ByteSize() < 100_000


def bytes_that_dont_compress(size):
    return random.Random(1).randbytes(size)


HINTS = {"min_ram": "16GB", "accelerator": "type:nvidia-l4;count:1;install-nvidia-driver"}
HINTS_SENT = {
    "beam:resources:min_ram_bytes:v1": b"16000000000",
    "beam:resources:accelerator:v1": b"type:nvidia-l4;count:1;install-nvidia-driver",
}


def unending(pipeline):
    """Add rows that never end."""
    return (
        pipeline
        | PeriodicImpulse(fire_interval=1)
        | beam.Map(lambda at: {"id": str(at), "x": float(at)})
        | beam.WindowInto(FixedWindows(10))
    )


def few(pipeline):
    """Add a few rows."""
    return pipeline | beam.Create(ROWS)


def trains(**arguments):
    """Return a training whose script is not run."""
    return TrainTFScript(
        script("train.py"), "gs://bucket-1/models", input_schema=SCHEMA, entry="keras_fit", **arguments
    )


def runs_echo(**arguments):
    """Return a transform whose script echoes its rows."""
    return RunTFScript(script("echo.py"), SCHEMA, input_schema=SCHEMA, **arguments)


def environment_of(job, step):
    """Return the environment of the workers of a step."""
    return job.proto_pipeline.components.environments[steps(job)[step].environment_id]


@pytest.mark.parametrize(
    ("add_rows", "transforms"),
    [
        (
            few,
            {
                "Dataset": runs_echo(num_workers=3),
                "Bundles": runs_echo(feed="bundles"),
                "Stream": runs_echo(feed="stream"),
                "Cluster": runs_echo(num_workers=2, num_ps=1),
                "Train": trains(),
            },
        ),
        (
            unending,
            {
                "Stream": runs_echo(num_workers=2),
                "DeadLetters": runs_echo(num_workers=2).with_exception_handling(),
                "Bundles": runs_echo(feed="bundles"),
                "Train": trains(feed="stream"),
            },
        ),
    ],
    ids=["batch", "streaming"],
)
def test_resource_hints_reach_the_stage_that_runs_the_script(add_rows, transforms):
    def build(pipeline):
        rows = add_rows(pipeline)
        for label, transform in transforms.items():
            _ = rows | label >> transform.with_resource_hints(**HINTS)

    job = make_job(build)
    for label in transforms:
        environment = environment_of(job, f"{label}/Run")
        assert dict(environment.resource_hints) == HINTS_SENT
        assert beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image == IMAGE
    # The rows come from workers without the accelerator. Some steps are the service's own, and have no workers.
    others = [
        name for name, step in steps(job).items() if step.environment_id and name.partition("/")[0] not in transforms
    ]
    assert len(others) > 1 and not any(environment_of(job, name).resource_hints for name in others)


def test_stage_with_resource_hints_gets_the_artifacts(tmp_path):
    """Its environment is another one than that of the other stages."""
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes_that_dont_compress((1 << 20) + 1))
    hinted = runs_echo(user_files=[str(file)]).with_resource_hints(**HINTS)
    job = make_job(lambda pipeline: few(pipeline) | "Score" >> hinted)
    names = {
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(item.role_payload).staged_name
        for item in environment_of(job, "Score/Run").dependencies
    }
    assert len([name for name in names if name.startswith("beam_tfscript-")]) == 1


def test_live_runs_keep_state_and_timers_that_a_streaming_service_has():
    job = make_job(lambda pipeline: unending(pipeline) | "Score" >> runs_echo(num_workers=2))
    found = steps(job)
    assert {name for name in found if name.startswith("Score/")} == {"Score/Chunk", "Score/Run"}
    run = beam_runner_api_pb2.ParDoPayload.FromString(found["Score/Run"].spec.payload)
    coders = job.proto_pipeline.components.coders
    assert {name: spec.protocol.urn for name, spec in run.state_specs.items()} == {
        "rows": "beam:user_state:bag:v1",
        "state": "beam:user_state:bag:v1",
    }
    assert coders[run.state_specs["state"].read_modify_write_spec.coder_id].spec.urn == "beam:coder:bytes:v1"
    assert {name: timer.time_domain for name, timer in run.timer_family_specs.items()} == {
        "ts-window_end": beam_runner_api_pb2.TimeDomain.EVENT_TIME,
        "ts-poll": beam_runner_api_pb2.TimeDomain.PROCESSING_TIME,
    }
    for timer in run.timer_family_specs.values():
        assert coders[timer.timer_family_coder_id].spec.urn == "beam:coder:timer:v1"
    assert "beam:requirement:pardo:stateful:v1" in job.proto_pipeline.requirements
    # The key, which distributes the shards, has a coder that the service knows.
    keyed = coder_text(job, only(found["Score/Run"].inputs.values()))
    assert keyed == "kv(varint, tuple(varint, varint, bytes))"
    assert coder_text(job, only(found["Score/Run"].outputs.values())) == "row"
    assert job.proto.type_ == job.proto.type_.JOB_TYPE_STREAMING


@pytest.mark.parametrize("add_rows", [few, unending])
def test_secrets_and_paths_of_the_submitter_are_not_in_clear(tmp_path, add_rows):
    (tmp_path / "score.py").write_bytes(pathlib.Path(script("echo.py")).read_bytes())
    secrets = {"env": {"TOKEN": "hush-1"}, "user_params": {"password": "hush-2"}, "script_args": ["--token=hush-3"]}
    transform = RunTFScript(str(tmp_path / "score.py"), SCHEMA, input_schema=SCHEMA, **secrets)
    job = make_job(lambda pipeline: add_rows(pipeline) | transform)
    # Beam's own artifacts are replaced by their addresses when they are staged.
    graph = beam_runner_api_pb2.Pipeline()
    graph.CopyFrom(job.proto_pipeline)
    for environment in graph.components.environments.values():
        del environment.dependencies[:]
    request = json_format.MessageToJson(describe_environment(job)._pb).encode()
    for text in ("hush", str(tmp_path), str(ROOT)):
        assert text.encode() not in graph.SerializeToString(), text
        assert text.encode() not in request, text


def test_demo_can_be_submitted():
    def build(pipeline):
        digits.build_pipeline(pipeline, input_file="gs://b/digits.csv.gz", predictions_file="gs://b/predictions.jsonl")

    job = make_job(build)
    assert shown(steps(job)["LearnAndScore/Run/ParDo(RunShard)"])["main_script_file"] == "digits_score.py"
    assert job.proto_pipeline.ByteSize() < 200_000


def test_every_option_in_the_docs_exists():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    options = [*parser._option_string_actions, *stream_kafka.make_parser()._option_string_actions]
    known = {name.lstrip("-") for name in options} | RUNNER_OPTIONS
    known |= {"input", "output"} | {parameter.name for parameter in PARAMETERS}
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "docs" / "submit.md").read_text(), re.DOTALL)
    used = {
        name
        for command in "\n".join(blocks).replace("\\\n", " ").splitlines()
        if "python -m pipelines" in command
        for name in re.findall(r"--([a-z_0-9]+)", command)
    }
    assert {"runner", "sdk_container_image", "environment_type"} <= used
    assert used <= known, used - known

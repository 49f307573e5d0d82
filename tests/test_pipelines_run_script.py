"""Pipeline of the Dataflow template: its parameters, its metadata, its files, and its launch.

A small server stands for Cloud Storage, and for the metadata server of the launcher's machine. Nothing is sent to
Dataflow.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from google.protobuf import json_format

from beam_tfscript.cli import template
from beam_tfscript.cli.template_parameters import PARAMETERS, parse
from beam_tfscript.errors import ArgumentError
from pipelines import run_script
from tests.cli_files import SCHEMA, make_rows, write_rows
from tests.servers.cloud_storage import BUCKET, cloud_storage
from tests.test_cli_check import ECHO
from tests.test_cli_run import IN_MEMORY, read_rows
from tests.without_tensorflow import blocked

PIPELINES = pathlib.Path(run_script.__file__).parent
IMAGE = "europe-docker.pkg.dev/project-1/images/beam-tfscript:1"
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
ON_DATAFLOW = ["--runner=DataflowRunner", f"--sdk_container_image={IMAGE}"]
FILES = ["--script=s.py", "--input=gs://b/rows.csv", "--output=gs://b/out", "--output_schema=id string"]


@pytest.fixture
def flags(tmp_path):
    """Flags of a run of a script without TensorFlow on the in-memory engine."""
    (tmp_path / "echo.py").write_text(ECHO)
    return [
        IN_MEMORY, f"--script={tmp_path}/echo.py", f"--output={tmp_path}/out/rows", f"--output_schema={SCHEMA}",
        f"--env={json.dumps(blocked(tmp_path))}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file_format"), [("rows.csv.gz", "jsonl"), ("rows.jsonl", "tfrecord"), ("rows.tfrecord", "csv")]
)
def test_rows_of_files_go_through_to_files(flags, tmp_path, name, file_format):
    write_rows(tmp_path / f"a-{name}", make_rows(20))
    write_rows(tmp_path / f"b-{name}", make_rows(30)[20:])
    # A hint makes another environment of the script's stage, which local engines run as well.
    more = [f"--input={tmp_path}/?-{name}", f"--output_format={file_format}", "--shards=2", "--min_ram=1GB"]
    assert run_script.main([*flags, *more, f"--input_schema={SCHEMA}"]) == 0
    (written,) = (tmp_path / "out").iterdir()
    assert written.suffix == f".{file_format}"
    assert sorted(read_rows(written), key=str) == sorted(make_rows(30), key=str)


def test_script_gets_what_the_parameters_say(flags, tmp_path):
    (tmp_path / "echo.py").write_text(
        "import sys\n\n\ndef go(config):\n    words = open('words.txt').read() + open('more.txt').read()\n"
        "    said = words + config.user_params['end'] + ''.join(sys.argv[1:])\n"
        "    config.write(id='a', said=said)\n"
    )
    for name in ("words", "more"):
        (tmp_path / f"{name}.txt").write_text(name)
    write_rows(tmp_path / "rows.csv", make_rows(2))
    more = [
        f"--input={tmp_path}/rows.csv", "--output_schema=id string, said string", "--output_format=jsonl",
        "--feed=dataset", "--entry=go", '--user_params={"end": "!"}', '--script_args=["a", "--b"]', "--max_attempts=2",
        f'--user_files=["{tmp_path}/words.txt", "{tmp_path}/more.txt"]',
    ]  # fmt: skip
    assert run_script.main([*flags, *more]) == 0
    (written,) = (tmp_path / "out").iterdir()
    assert read_rows(written) == [{"id": "a", "said": "wordsmore!a--b"}]


def test_script_that_fails_is_explained(flags, tmp_path, capsys):
    (tmp_path / "echo.py").write_text("def main(config):\n    {}['absent']\n")
    assert run_script.main([*flags, f"--input={write_rows(tmp_path / 'rows.csv')}"]) == 1
    assert "run_script: ScriptRaised: echo.py, line 2: KeyError: 'absent'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--shards=two", "shards must be a whole number, got 'two'."),
        ("--shards=0", "shards must be a whole number of at least 1, got 0."),
        ("--start_timeout=1m", "start_timeout must be a number of seconds, got '1m'."),
        ("--ps_main=yes", "ps_main must be true or false, got 'yes'."),
        ("--feed=all", "feed must be one of dataset, bundles, stream, got 'all'."),
        ("--input_format=xls", "input_format must be one of tfrecord, csv, jsonl, parquet, got 'xls'."),
        ("--entry=my main", "entry must be the name of a function, got 'my main'."),
        ("--python_version=2.7", "python_version must be a version such as 3.8, got '2.7'."),
        ("--log_level=LOUD", "log_level must be a level of Python's logging, such as 'INFO', 'WARNING' or 30"),
        ("--min_ram=16", "min_ram must be an amount of memory such as 16GB, got '16'."),
        ("--accelerator=t4", "accelerator must be a text such as type:nvidia-l4;count:1;install-nvidia-driver"),
        ("--sdk_container_image=mine", "sdk_container_image must be the name of an image, such as REGISTRY/NAME:TAG"),
        ("--user_files=[1]", "user_files must be a text, or a JSON list of texts: the list has a value of another"),
        ("--output_schema=id", "output_schema: "),
        ("--output_schema=x array<int>", "CSV has no arrays: write jsonl"),
        ("--script=absent.py", "script: there is no file 'absent.py'"),
        ("--input=absent.csv", "There is no file absent.csv"),
        ("--feed=bundles", 'shards has no meaning in feed="bundles"'),
        ("--shrds=2", "neither run_script nor Beam has a flag --shrds. Is it --shards?"),
        # The texts may be secrets: errors do not show them.
        ("--user_params={hush", "user_params must be JSON: Expecting property name enclosed in double quotes at char"),
        ('--env={"A": "hush",}', "env must be a JSON object of texts: "),
        ("--env=A=hush", "env must be a JSON object of texts."),
    ],
)
def test_parameter_that_cannot_be_used_is_named(flags, tmp_path, capsys, more, message):
    data = write_rows(tmp_path / "rows.csv")
    assert run_script.main([*flags, f"--input={data}", "--shards=2", more]) == 1
    err = capsys.readouterr().err
    assert message in err and "hush" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "missing"),
    [([], "--input, --output, --script, --output_schema"), (FILES[:3], "--output_schema"),
     ([*FILES, "--runner=DataflowRunner"], "--sdk_container_image")],
)  # fmt: skip
def test_missing_parameters_are_all_named(capsys, given, missing):
    with pytest.raises(SystemExit):
        run_script.main(given)
    assert f"run_script: error: missing: {missing}\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["input", "output"])
def test_paths_of_this_machine_are_refused_on_dataflow(name):
    with pytest.raises(ArgumentError, match=f"{name} must be a URI on Dataflow, .* got '/tmp/rows.csv'"):
        parse([*FILES, *ON_DATAFLOW, f"--{name}=/tmp/rows.csv"], program="p")
    assert parse([*FILES, f"--{name}=/tmp/rows.csv"], program="p").files[name] == "/tmp/rows.csv"


def test_metadata_is_current():
    path = PIPELINES / "run_script_metadata.json"
    assert path.read_text("utf-8") == template.text(), "python -m beam_tfscript.cli.template writes it"


def test_service_understands_the_metadata():
    types = pytest.importorskip("google.cloud.dataflow_v1beta3.types", reason="needs apache-beam[gcp]")
    # Unknown keys and unknown types of a parameter are errors.
    parsed = json_format.ParseDict(template.metadata(), types.TemplateMetadata()._pb)
    assert len(parsed.parameters) == len(PARAMETERS)
    for parameter in parsed.parameters:
        assert parameter.name and parameter.label and parameter.help_text
        assert bool(parameter.enum_options) == (parameter.param_type == types.ParameterType.ENUM)


def test_metadata_names_the_flags_of_the_program(capsys):
    with pytest.raises(SystemExit):
        run_script.main(["--help"])
    shown = set(re.findall(r"^  --(\w+)", capsys.readouterr().out, re.MULTILINE))
    described = {parameter["name"]: parameter for parameter in template.metadata()["parameters"]}
    assert shown == set(described)
    with pytest.raises(SystemExit):
        run_script.main(["--runner=DataflowRunner"])
    required = {name for name, parameter in described.items() if not parameter["isOptional"]}
    assert set(re.findall(r"--(\w+)", capsys.readouterr().err.partition("missing: ")[2])) == required


def test_no_parameter_hides_an_option_of_beam():
    """The launcher passes options of Beam, such as `num_workers`, in the same command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)
    beams = {name.lstrip("-") for name in parser._option_string_actions}
    assert {name for name in BY_NAME if name in beams} == {"sdk_container_image"}


GOOD = {
    "input": "gs://b/rows-*.csv", "output": "gs://b/out/part", "shards": "12", "num_ps": "0", "start_timeout": "1.5",
    "intra_op_parallelism": "4", "max_attempts": "3", "ps_main": "true", "entry": "go_2", "python_version": "3.8.18",
    "log_level": "warning", "env": '{"A": "1"}', "min_ram": "1.5 GiB", "sdk_container_image": IMAGE,
    "accelerator": "type:nvidia-tesla-t4;count:2;install-nvidia-driver:5xx", "accelerators_per_process": "0.5",
}  # fmt: skip
BAD = {
    "input": "rows.csv", "output": "/out", "shards": "1.5", "num_ps": "-1", "start_timeout": "1,5",
    "intra_op_parallelism": "four", "max_attempts": " 3", "ps_main": "True", "entry": "go-2", "python_version": "3",
    "log_level": "30.5", "env": "A=1", "min_ram": "1.5", "sdk_container_image": "beam", "accelerator": "type:x",
    "accelerators_per_process": "half",
}  # fmt: skip


def test_service_and_program_agree_on_each_expression():
    described = {parameter["name"]: parameter for parameter in template.metadata()["parameters"]}
    with_regex = {name for name, parameter in described.items() if "regexes" in parameter}
    choices = {name for name, parameter in described.items() if "enumOptions" in parameter}
    assert with_regex - choices == set(GOOD) == set(BAD)
    for name in sorted(with_regex):
        (regex,) = described[name]["regexes"]
        # Anchored, and without what POSIX's extended expressions do not have.
        assert regex.startswith("^") and regex.endswith("$") and "\\" not in regex and "(?" not in regex, regex
        good = [option["value"] for option in described[name].get("enumOptions", ())] or [GOOD[name]]
        for text in good:
            assert re.search(regex, text), (name, text)
            parse([*FILES, *ON_DATAFLOW, f"--{name}={text}"], program="p")
        bad = BAD.get(name, good[0] + "x")
        assert not re.search(regex, bad), (name, bad)
        with pytest.raises(ArgumentError, match=rf"^{name} must be "):
            parse([*FILES, *ON_DATAFLOW, f"--{name}={bad}"], program="p")


def test_defaults_that_a_console_shows_are_those_of_the_transform():
    shown = {p["name"]: p["defaultValue"] for p in template.metadata()["parameters"] if "defaultValue" in p}
    assert shown == {"intra_op_parallelism": "4", "entry": "main", "start_timeout": "120", "log_level": "INFO"}
    given = parse([*FILES, *(f"--{name}={text}" for name, text in shown.items())], program="p").arguments
    for name in shown:
        argument = BY_NAME[name].argument
        assert given[name] == argument.check_value(argument.default)


def test_parameters_in_the_docs_are_valid():
    (shown,) = re.findall(r"--parameters='\^~\^(.*)'", (PIPELINES.parent / "docs" / "submit.md").read_text("utf-8"))
    described = {parameter["name"]: parameter for parameter in template.metadata()["parameters"]}
    given = dict(pair.split("=", 1) for pair in shown.split("~"))
    assert {name for name, parameter in described.items() if not parameter["isOptional"]} <= set(given)
    for name, text in given.items():
        assert all(re.search(regex, text) for regex in described[name].get("regexes", ())), name
    parse([ON_DATAFLOW[0], *(f"--{name}={text}" for name, text in given.items())], program="p")


def test_parameters_that_a_console_leaves_empty_are_not_given():
    assert "shards" not in parse([*FILES, "--shards=", "--feed="], program="p").arguments


def test_launcher_gets_the_job_and_the_program_ends(tmp_path):
    """Started as the launcher starts it: by the file's path, from elsewhere, with flags that Beam may not know."""
    parameters = {
        "script": f"gs://{BUCKET}/code/echo.py", "input": f"gs://{BUCKET}/rows*.csv", "output": f"gs://{BUCKET}/out/part",
        "output_schema": SCHEMA, "user_params": '{"password": "hush-1"}', "env": '{"TOKEN": "hush-2"}', "shards": "3",
        "min_ram": "16GB", "accelerator": "type:nvidia-l4;count:1;install-nvidia-driver", "sdk_container_image": IMAGE,
    }  # fmt: skip
    launchers = {
        "runner": "DataflowRunner", "project": "project-1", "region": "europe-west1", "job_name": "scores-1",
        "temp_location": f"gs://{BUCKET}/temp", "staging_location": f"gs://{BUCKET}/staging", "num_workers": "2",
        "template_location": f"gs://{BUCKET}/launches/1/job_object", "launcherOnly": "x",
    }  # fmt: skip
    with cloud_storage() as storage:
        storage.objects["code/echo.py"] = ECHO.encode()
        storage.objects["rows-1.csv"] = pathlib.Path(write_rows(tmp_path / "rows.csv")).read_bytes()
        flags = [f"--{name}={value}" for name, value in {**parameters, **launchers}.items()]
        done = subprocess.run(
            [sys.executable, PIPELINES / "run_script.py", *flags],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PIPELINES.parent), **storage.variables()},
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not storage.unknown
    assert f"Columns, guessed from gs://{BUCKET}/rows-1.csv" in done.stdout and "id string, x double" in done.stdout
    job = json.loads(storage.objects["launches/1/job_object"])
    (pool,) = job["environment"]["workerPools"]
    assert (job["name"], pool["numWorkers"]) == ("scores-1", 2)
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    (staged,) = (content for name, content in storage.objects.items() if name.endswith("/pipeline.pb"))
    check_staged_pipeline(beam_runner_api_pb2.Pipeline.FromString(staged))
    # Everything that the service gets: the job, the graph, the artifacts.
    for name, content in storage.objects.items():
        if name.startswith(("launches/", "staging/")):
            # Beam itself stages the path of the interpreter that submits, which may be in the checkout.
            paths = () if name.endswith("/submission_environment_dependencies.txt") else (tmp_path, PIPELINES.parent)
            for text in ("hush", *map(str, paths)):
                assert text.encode() not in content, (name, text)


def check_staged_pipeline(pipeline):
    """Check the machines of the script's stage, and that all artifacts are where workers can read them."""
    components = pipeline.components
    steps = {step.unique_name: step for step in components.transforms.values()}
    hints = components.environments[steps["Script/Run"].environment_id].resource_hints
    assert dict(hints) == {
        "beam:resources:min_ram_bytes:v1": b"16000000000",
        "beam:resources:accelerator:v1": b"type:nvidia-l4;count:1;install-nvidia-driver",
    }
    assert not components.environments[steps["Read/ReadCsv/Read"].environment_id].resource_hints
    for environment in components.environments.values():
        for artifact in environment.dependencies:
            url = beam_runner_api_pb2.ArtifactUrlPayload.FromString(artifact.type_payload).url
            assert url.startswith(f"gs://{BUCKET}/staging/"), url

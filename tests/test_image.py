"""The Dockerfile, without Docker: it fits the pinned versions, and its steps make workers that run a script."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.engines.beam_boot import find_boot
from tests.engines.tools import ToolMissing
from tests.images import ROOT, Image, copy, fill, is_sent, read_dockerfile, sources_of
from tests.test_cli_check import ECHO

ARGUMENTS, STAGES = read_dockerfile()
# The script's own Python, which the image has beside that of the workers.
SCRIPT_PYTHON = "3.8"
SCRIPT_REQUIREMENTS = "tensorflow==2.3.4 protobuf<3.21 numpy<1.19"
SCRIPT = """
import getpass
import tensorflow as tf

def main(config):
    for batch in config.batches(10):
        said = "TensorFlow {} as {}".format(tf.__version__, getpass.getuser())
        config.write_batch(id=batch["id"], said=[said] * len(batch["id"]))
"""
# As in a pod of Kubernetes: the pool starts workers on request, each by the boot program. The runner is in the same
# network, and has no other way to the pool.
RUN_ON_A_POOL = """
{entrypoint} --worker_pool > pool.txt 2>&1 &
for second in $(seq 60); do (exec 3<> /dev/tcp/127.0.0.1/50000) 2> /dev/null && break; sleep 1; done
timeout -s KILL 240 beam-tfscript run /srv/score.py --input /srv/rows.csv --output /tmp/out/part --format jsonl \\
    --input-schema "id string, x float" --output-schema "id string, said string" --python-env worker:///opt/script \\
    --runner=PortableRunner --job_endpoint=embed --environment_type=EXTERNAL --environment_config=localhost:50000 \\
    || {{ tail -c 3000 pool.txt; exit 1; }}
cat /tmp/out/*
"""


def pinned():
    """Return package -> version in constraints.txt."""
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def setup_py():
    return (ROOT / "setup.py").read_text()


def installs_the_package(instruction, text):
    return instruction == "RUN" and re.search(r"pip install .*(\s\.|'\.\[\w+\]')$", text) is not None


def texts(stage, instruction):
    """Return the texts of a stage's own steps of a kind."""
    return [text for step, text in STAGES[stage].steps if step == instruction]


def test_image_is_of_the_beam_version_that_the_constraints_pin():
    assert ARGUMENTS["BEAM_VERSION"] == pinned()["apache-beam"]
    major, minor = map(int, ARGUMENTS["PYTHON_VERSION"].split("."))
    assert (major, minor) >= tuple(map(int, re.search(r'python_requires=">=([\d.]+)"', setup_py())[1].split(".")))
    beams = f"apache/beam_python{major}.{minor}_sdk:{ARGUMENTS['BEAM_VERSION']}"
    assert fill(STAGES["package"].base, ARGUMENTS) == beams
    assert texts("package", "ENTRYPOINT") == ['["/opt/apache/beam/boot"]']


def test_image_installs_what_setup_py_asks_for_at_the_pinned_versions():
    first, last = (text for step, text in STAGES["package"].steps if installs_the_package(step, text))
    assert first.count("--constraint constraints.txt") == 2  # uv, and the package with its dependencies
    assert "--no-deps" in last
    needed = re.findall(r'^        "([\w-]+)[<>=]', setup_py(), re.MULTILINE)
    assert {"apache-beam", "tensorflow", "tfx-bsl", "protobuf", "pyarrow"} <= set(needed)
    assert {name for name in needed if name not in pinned()} <= {"google-crc32c"}


def test_workers_have_no_root_but_on_dataflow():
    """The stage that is built by default is the last one. A pod that forbids root needs the user's number."""
    assert list(STAGES)[-1] == "worker" and STAGES["worker"].base == STAGES["dataflow"].base == "package"
    (user,) = texts("worker", "USER")
    assert int(user) > 0
    assert not texts("package", "USER") and not texts("dataflow", "USER")
    assert not any(texts(stage, "ENTRYPOINT") for stage in ("worker", "dataflow"))


def test_launcher_starts_the_pipeline_that_the_image_has():
    (variable,) = texts("dataflow", "ENV")
    name, _, path = variable.partition("=")
    assert name == "FLEX_TEMPLATE_PYTHON_PY_FILE"
    from_launcher, from_here = texts("dataflow", "COPY")
    assert from_launcher.split() == ["--from=launcher", *["/opt/google/dataflow/python_template_launcher"] * 2]
    (source,), target = sources_of(from_here)
    assert target + source.name == path


def test_docker_is_sent_only_files_that_the_image_has():
    for stage in STAGES:
        for text in texts(stage, "COPY"):
            assert all(is_sent(source) for source in sources_of(text)[0]), text
    for name in (".venv", "build", ".git", "tests", "docs", "beam_tfscript/data/__pycache__"):
        assert not is_sent(ROOT / name), name


def test_each_installation_has_the_files_that_setup_py_reads(tmp_path):
    installs = 0
    for instruction, text in STAGES["package"].steps:
        if instruction == "COPY":
            copy_into(tmp_path, text)
        elif installs_the_package(instruction, text):
            installs += 1
            asked = subprocess.run(
                [sys.executable, "setup.py", "--version"], cwd=tmp_path, capture_output=True, text=True
            )
            assert asked.returncode == 0, asked.stderr
    assert installs == 2


def copy_into(directory, text):
    sources, target = sources_of(text)
    for source in sources:
        copy(source, directory / target, is_directory=target.endswith("/"))


def test_image_has_all_files_of_the_package(tmp_path):
    for text in texts("package", "COPY"):
        copy_into(tmp_path, text)
    built = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", "built"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    package, copied = ROOT / "beam_tfscript", tmp_path / "built" / "beam_tfscript"
    wanted = {path.relative_to(package) for path in package.rglob("*.py")} | {pathlib.Path("py.typed")}
    assert wanted <= {path.relative_to(copied) for path in copied.rglob("*")}


@pytest.mark.builds
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_template_and_workers_of_the_image_run(tmp_path):
    """One test, as all stages begin with the same steps, which take longest."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("steps of the image need root and unshare")
    try:
        boot = find_boot()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    arguments = {"SCRIPT_PYTHON": SCRIPT_PYTHON, "SCRIPT_REQUIREMENTS": SCRIPT_REQUIREMENTS}
    image = Image(tmp_path / "image", pythons=(SCRIPT_PYTHON,), arguments=arguments)
    try:
        # Beam's image has it.
        copy(pathlib.Path(boot), image.upper / "opt/apache/beam/boot", is_directory=False)
        assert image.build("package") == []
        write_scripts_and_rows(image.upper / "srv")
        # The launcher is a program of Google's, and is not here.
        (left_out,) = image.build("dataflow")
        assert left_out.startswith("--from=launcher ")
        check_template(image)
        assert image.build("worker") == []
        check_workers(image)
    finally:
        shutil.rmtree(tmp_path / "image")


def write_scripts_and_rows(directory):
    blocked = directory / "blocked" / "tensorflow"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('not here')\n")
    (directory / "score.py").write_text(SCRIPT)
    (directory / "echo.py").write_text(ECHO)
    (directory / "rows.csv").write_text("id,x\na,1.5\nb,2\n")


def check_template(image):
    """Start the template's file as its launcher starts it, with a runner that is here."""
    path = image.environment["FLEX_TEMPLATE_PYTHON_PY_FILE"]
    flags = [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner", "--script=/srv/echo.py",
        "--input=/srv/rows.csv", "--output=/srv/out/part", "--output_format=jsonl",
        "--output_schema=id string, x float", '--env={"PYTHONPATH": "/srv/blocked"}',
    ]  # fmt: skip
    image.run(["python", path, *flags])
    (written,) = (image.upper / "srv/out").iterdir()
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert rows == [{"id": "a", "x": 1.5}, {"id": "b", "x": 2}]


def check_workers(image):
    """Run a script in the second Python, by workers that the image's command starts."""
    assert image.user == 1000
    shown = image.run(["bash", "-c", RUN_ON_A_POOL.format(entrypoint=" ".join(image.entrypoint))])
    rows = [json.loads(line) for line in re.findall(r"^\{.*\}$", shown, re.MULTILINE)]
    assert rows == [{"id": name, "said": "TensorFlow 2.3.4 as beam"} for name in "ab"]

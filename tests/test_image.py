"""The Dockerfile, without Docker: it fits the pinned versions, and copies all files that it needs."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def dockerfile():
    """Return (instruction, its text) of each line, with continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def pinned():
    """Return package -> version in constraints.txt."""
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def setup_py():
    return (ROOT / "setup.py").read_text()


def copy_as_docker_does(source, target):
    """Copy a directory's content, or a file, into a directory."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_image_is_of_the_beam_version_that_the_constraints_pin():
    arguments = dict(text.split("=") for instruction, text in dockerfile() if instruction == "ARG" and "=" in text)
    assert arguments["BEAM_VERSION"] == pinned()["apache-beam"]
    major, minor = map(int, arguments["PYTHON_VERSION"].split("."))
    assert (major, minor) >= tuple(map(int, re.search(r'python_requires=">=([\d.]+)"', setup_py())[1].split(".")))
    bases = [text for instruction, text in dockerfile() if instruction == "FROM"]
    assert bases == ["apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION}"]
    assert ("ENTRYPOINT", '["/opt/apache/beam/boot"]') in dockerfile()


def test_image_installs_what_setup_py_asks_for_at_the_pinned_versions():
    installs = [text for instruction, text in dockerfile() if instruction == "RUN" and "pip install" in text]
    assert installs
    assert all("--constraint constraints.txt" in text for text in installs)
    needed = re.findall(r'^        "([\w-]+)[<>=]', setup_py(), re.MULTILINE)
    assert {"apache-beam", "tensorflow", "tfx-bsl", "protobuf", "pyarrow"} <= set(needed)
    assert {name for name in needed if name not in pinned()} <= {"google-crc32c"}


def test_each_installation_has_the_files_that_setup_py_reads(tmp_path):
    installs = 0
    for instruction, text in dockerfile():
        if instruction == "COPY":
            *sources, target = text.split()
            for source in sources:
                copy_as_docker_does(ROOT / source, tmp_path / target)
        elif instruction == "RUN" and "pip install" in text:
            installs += 1
            asked = subprocess.run(
                [sys.executable, "setup.py", "--version"], cwd=tmp_path, capture_output=True, text=True
            )
            assert asked.returncode == 0, asked.stderr
    assert installs == 2


def test_image_has_all_files_of_the_package(tmp_path):
    for instruction, text in dockerfile():
        if instruction == "COPY":
            *sources, target = text.split()
            for source in sources:
                copy_as_docker_does(ROOT / source, tmp_path / target)
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

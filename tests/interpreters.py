"""`make test-envs`: build old interpreters with old TensorFlows, once, and run the runtime's checks in each.

Each interpreter's tests are a few pytests of their own: those of one interpreter share its processes (tests/warm.py).

Pythons are looked for on PATH and in pyenv. A missing one is named and left out, and is a failure where nothing may be
skipped (`BEAM_TFSCRIPT_NO_SKIPS=1`, as in CI).
"""

from __future__ import annotations

import glob
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.uv import run_uv

BUILD = pathlib.Path(__file__).parent.parent / "build" / "envs"
TESTS = [
    "tests/test_cluster_ports.py",
    "tests/test_cluster_tf_config.py",
    "tests/test_compat_names.py",
    "tests/test_compat_scripts.py",
    "tests/test_dataset_types.py",
    "tests/test_own_server.py",
    "tests/test_run_python_env.py::test_script_runs_in_a_directorys_interpreter",
    "tests/test_runs_in_one_process.py",
    "tests/test_runtime_reader.py",
    "tests/test_runtime_saved_model.py",
    "tests/test_train_envs.py",
]
# Tests that each interpreter must pass, as the newest does in `make test`, by the engine that they run on.
CONFORMANCE = {
    "in_memory": ["tests/test_conformance.py", "tests/test_digits_interpreters.py"],
    "bundle_based": ["tests/test_conformance_unbounded.py"],
}
# Tests of the oldest interpreter only: it differs most from the newest. Those left out start no script in it.
OLDEST = {"in_memory": ["tests/test_faults.py", "-k", "not TestConstruction and not TestPipelineDies"]}


class Job(NamedTuple):
    """A pytest of its own, for one interpreter: jobs run side by side.

    Attributes:
      name: what is tested, for a person.
      arguments: of pytest.
      variables: of its environment.
    """

    name: str
    arguments: list[str]
    variables: dict[str, str]


class Environment(NamedTuple):
    """An interpreter and what is installed in it."""

    name: str
    python: str
    requirements: tuple[str, ...]


ENVIRONMENTS = (
    Environment("tf1.15", "3.7", ("tensorflow==1.15.5", "protobuf<3.21")),
    Environment("tf2.3", "3.8", ("tensorflow==2.3.4", "protobuf<3.21", "numpy<1.19")),
    Environment("tf2.15", "3.11", ("tensorflow==2.15.1",)),
)


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of that version that starts, or None."""
    root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = [shutil.which(f"python{version}"), *glob.glob(f"{root}/versions/{version}.*/bin/python")]
    for path in filter(None, found):
        # A shim of pyenv is on the PATH for every version, and starts only those that are chosen.
        shown = subprocess.run([path, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
        if shown.returncode == 0:
            return shown.stdout.strip()
    return None


def build(environment: Environment) -> str | None:
    """Build an environment if it is not there yet; return its interpreter, or None where its Python is missing."""
    directory = BUILD / environment.name
    done = directory / "installed.txt"
    wanted = "\n".join(environment.requirements)
    if not done.exists() or done.read_text() != wanted:
        python = find_python(environment.python)
        if python is None:
            return None
        run_uv("venv", "--clear", "--python", python, str(directory))
        run_uv("pip", "install", *environment.requirements, environment=directory)
        done.write_text(wanted)
    return str(directory / "bin" / "python")


def main() -> int:
    """Build the environments whose Python is there, and run the checks in them."""
    pythons, missing = {}, []
    for environment in ENVIRONMENTS:
        python = build(environment)
        if python is None:
            missing.append(f"Python {environment.python} (for {environment.name})")
        else:
            pythons[environment.name] = python
    if missing:
        sys.stderr.write(f"test-envs: not on this machine, and left out: {', '.join(missing)}\n")
        if os.environ.get("BEAM_TFSCRIPT_NO_SKIPS") == "1":
            return 1
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        statuses = list(pool.map(_run, _jobs(pythons)))
    return 1 if any(statuses) else 0


def _jobs(pythons: dict[str, str]) -> Iterator[Job]:
    """Yield what there is to run, the longest first."""
    own = {"BEAM_TFSCRIPT_TEST_PYTHONS": ":".join(pythons.values())}
    for name in pythons:
        # Each test's id has the name of its interpreter. The others are of the checkout's, and of `make test`.
        yield Job(f"the interpreter's own tests, {name}", ["-k", name, *TESTS], own)
    for name, python in pythons.items():
        runs = [*CONFORMANCE.items(), *(OLDEST.items() if name == next(iter(pythons)) else ())]
        for engine, arguments in runs:
            variables = {"BEAM_TFSCRIPT_TEST_PYTHON": python, "BEAM_TFSCRIPT_TEST_ENGINES": engine}
            yield Job(f"{arguments[0]}, with scripts in {name}", arguments, variables)


def _run(job: Job) -> int:
    """Return pytest's exit status; its output is shown as a whole, when it has ended."""
    # The heavy tests too, which `make test` leaves out.
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-m", "not large", *job.arguments]
    done = subprocess.run(
        command, env={**os.environ, **job.variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    sys.stdout.write(f"test-envs: {job.name}\n{done.stdout}")
    sys.stdout.flush()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

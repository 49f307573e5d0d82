"""`make test-install`: builds the distributions, installs the wheel as users do, and tests a user's first hour there.

Each environment is made anew of nothing but the wheel and what it needs; the tests are those in `tests/installed`. The
source distribution's own tests are run by the checkout's interpreter, from where it was unpacked.
"""

from __future__ import annotations

import email
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.interpreters import find_python
from tests.uv import run_uv

ROOT = pathlib.Path(__file__).parent.parent
BUILD = ROOT / "build" / "install"
NOTEBOOK = ("ipykernel", "nbclient", "nbformat")
# See tests/uv.py.
_COMPILING = () if sys.dont_write_bytecode else ("--no-compile",)
# Downloads of one beside the tests of another.
_SIDE_BY_SIDE = 2
# Tests of the source distribution that are quick, and read files of all its folders.
OF_SOURCES = ["tests/test_docs.py", "tests/test_image.py", "tests/test_layers.py", "tests/test_data_schema.py"]


class Environment(NamedTuple):
    """A Python and a way to install the wheel there.

    Attributes:
      name: the environment's directory.
      python: the version.
      resolution: uv's; None for the pip that comes with that Python, and the constraints that README names.
      extras: what the tests need beside the wheel; a test that finds its package missing skips itself.
    """

    name: str
    python: str
    resolution: str | None
    extras: tuple[str, ...] = ()


ENVIRONMENTS = (
    Environment("3.10-pip", "3.10", None, NOTEBOOK),
    Environment("3.10-lowest", "3.10", "lowest-direct"),
    Environment("3.13-lowest", "3.13", "lowest-direct"),
    Environment("3.13-newest", "3.13", "highest", (*NOTEBOOK, "mypy", "pyright[nodejs]")),
)


def build_distributions() -> tuple[pathlib.Path, pathlib.Path]:
    """Return the paths of a new wheel and a new source distribution."""
    directory = BUILD / "dist"
    shutil.rmtree(directory, ignore_errors=True)
    run_uv("build", "--out-dir", str(directory), str(ROOT))
    (wheel,), (source,) = directory.glob("*.whl"), directory.glob("*.tar.gz")
    return wheel, source


def install(environment: Environment, python: str, wheel: pathlib.Path) -> str:
    """Make the environment and return its interpreter."""
    directory = BUILD / environment.name
    shutil.rmtree(directory, ignore_errors=True)
    own = str(directory / "bin" / "python")
    if environment.resolution is None:
        subprocess.run([python, "-m", "venv", str(directory)], check=True)
        pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_COMPILING]
        subprocess.run([*pip, "--constraint", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    else:
        run_uv("venv", "--python", python, str(directory))
        # Its requirements by name too: `lowest-direct` is of what is named, and all else is the newest.
        wanted = ["--resolution", environment.resolution, str(wheel), *_requirements(wheel)]
        run_uv("pip", "install", *wanted, environment=directory)
    # What is there stays as it is: the tests are for those versions.
    kept = directory / "kept.txt"
    frozen = run_uv("pip", "freeze", environment=directory)
    kept.write_text("".join(f"{line}\n" for line in frozen.splitlines() if "==" in line))
    more = ["--constraint", str(kept), "pytest", "pytest-timeout", *environment.extras]
    run_uv("pip", "install", *more, environment=directory)
    return own


def _requirements(wheel: pathlib.Path) -> list[str]:
    """Return the requirements of a wheel, without those of its extras."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        found = email.message_from_bytes(file.read(name)).get_all("Requires-Dist", [])
    return [line for line in found if "extra ==" not in line]


def test(environment: Environment, python: str) -> int:
    """Run the tests of `tests/installed` from a copy, so that they see no checkout; return pytest's exit status."""
    copy = BUILD / f"{environment.name}-tests"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "tests" / "installed", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "pytest.ini").write_text("[pytest]\naddopts = -ra\ntimeout = 600\n")
    # Options of pytest are for the checkout's, which has plugins that this one lacks.
    own = ("PYTHONPATH", "VIRTUAL_ENV", "PYTEST_ADDOPTS")
    variables = {name: value for name, value in os.environ.items() if name not in own}
    variables["BEAM_TFSCRIPT_CHECKOUT"] = str(ROOT)
    command = [python, "-m", "pytest", "--quiet", "."]
    return _run_and_show(environment.name, command, cwd=copy, env=variables)


def test_sources(source: pathlib.Path) -> int:
    """Run some tests of the unpacked source distribution; return pytest's exit status."""
    directory = BUILD / "sources"
    shutil.rmtree(directory, ignore_errors=True)
    with tarfile.open(source) as archive:
        archive.extractall(directory, filter="data")
    (unpacked,) = directory.iterdir()
    return _run_and_show(
        "the source distribution", [sys.executable, "-m", "pytest", "--quiet", *OF_SOURCES], cwd=unpacked
    )


def _run_and_show(name: str, command: list[str], **arguments: Any) -> int:
    """Run a command, and show all its output when it has ended: other commands run beside it."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **arguments)
    sys.stdout.write(f"test-install: {name}\n{done.stdout}")
    sys.stdout.flush()
    return done.returncode


def main(names: list[str]) -> int:
    """Test the environments of these names; all where none is named."""
    wheel, source = build_distributions()

    def check(environment: Environment) -> bool:
        python = find_python(environment.python)
        if python is None:
            sys.stderr.write(f"test-install: no Python {environment.python} here: {environment.name} left out\n")
            return os.environ.get("BEAM_TFSCRIPT_NO_SKIPS") != "1"
        return test(environment, install(environment, python, wheel)) == 0

    chosen = [environment for environment in ENVIRONMENTS if not names or environment.name in names]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        are_well = list(pool.map(check, chosen))
    if not names:
        are_well.append(test_sources(source) == 0)
    return 0 if all(are_well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

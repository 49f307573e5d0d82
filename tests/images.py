"""The Dockerfile without Docker: its stages, and their steps, run for real in a file system of their own.

A stage's file system is this machine's with changes on top, by overlayfs. The image's Python is one of pyenv's, mounted
with no packages where Docker's images have theirs. So a step finds the paths of the image, and changes nothing here. It
needs root and the tools of util-linux.
"""

from __future__ import annotations

import fnmatch
import json
import os
import pathlib
import re
import shlex
import shutil
import string
import subprocess
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from tests.interpreters import find_python

ROOT = pathlib.Path(__file__).parent.parent
DOCKERFILE = ROOT / "Dockerfile"
# Settings of pip and uv on this machine, by which they find packages.
_SETTINGS = re.compile(r"(PIP|SSL|REQUESTS)_\w+|UV_(INDEX|DEFAULT_INDEX)\w*|\w+_(proxy|PROXY)")
# Packages of other builds are copied, and bytecode is left to the imports. The same files are installed.
_SPARE = {"UV_NO_CACHE": "0", "UV_CACHE_DIR": "/var/cache/uv", "UV_COMPILE_BYTECODE": "0"}
# Numbers of people's users, of which the image has none, are from the first one up to the second one.
_FIRST_UID, _NOBODY = 1000, 65534


class Stage(NamedTuple):
    """A stage of the Dockerfile.

    Attributes:
      base: the image or the stage that it begins with; variables are in it by name.
      steps: (instruction, its text), with continued lines joined.
    """

    base: str
    steps: list[tuple[str, str]]


def read_dockerfile() -> tuple[dict[str, str], dict[str, Stage]]:
    """Return (the arguments before the first stage, with their defaults; the stages by name)."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\w+)", rest).groups()
            stages[name] = Stage(base, [])
        elif not stages:
            name, _, default = rest.partition("=")
            arguments[name] = default
        else:
            stages[list(stages)[-1]].steps.append((instruction, rest))
    return arguments, stages


def sources_of(text: str) -> tuple[list[pathlib.Path], str]:
    """Return (the files that a COPY reads here, its target); none for files of another image."""
    *sources, target = text.split()
    if sources[0].startswith("--from="):
        return [], target
    assert not any(source.startswith("--") for source in sources), text
    return [ROOT / source for source in sources], target


def copy(source: pathlib.Path, target: pathlib.Path, *, is_directory: bool) -> None:
    """Copy a directory's content, or a file, as Docker does: without what .dockerignore leaves out."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        (target if is_directory else target.parent).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def is_sent(path: pathlib.Path) -> bool:
    """Return True if .dockerignore lets Docker have a file; later lines of it win."""
    name = path.relative_to(ROOT).as_posix()
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        if not line or line.startswith("#"):
            continue
        parents = [name, *(parent.as_posix() for parent in pathlib.PurePosixPath(name).parents)]
        if any(fnmatch.fnmatch(part, pattern) for part in parents if part != "."):
            sent = line.startswith("!")
    return sent


class Image:
    """A file system in which steps run, and its settings.

    Args:
      directory: a directory for the changes.
      pythons: versions of Python that uv finds as if it had downloaded them.
      arguments: the build arguments.

    Attributes:
      upper: the changes, as a tree.
      environment: environment variables of the image.
      user: number of the user.
      entrypoint: the image's command.
    """

    def __init__(self, directory: pathlib.Path, *, pythons: tuple[str, ...], arguments: Mapping[str, str]):
        self.upper = directory / "upper"
        self.environment = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.user = 0
        self.entrypoint: list[str] = []
        self._directory = directory
        self._python = _find(read_dockerfile()[0]["PYTHON_VERSION"])
        self._downloads = [_find(version).parent.parent for version in pythons]
        self._cache = os.environ.get("UV_CACHE_DIR") or os.path.expanduser("~/.cache/uv")
        self._given = dict(arguments)
        self._arguments: dict[str, str] = {}
        self._work_dir = "/"
        for name in ("upper", "work", "root", "site"):
            (directory / name).mkdir(parents=True)
        self._leave_out_people()
        # Pyenv's Pythons load their libraries from where pyenv has them, which is root's home directory.
        above = {str(parent) for prefix in (self._python, *self._downloads) for parent in prefix.parents}
        self.run(["chmod", "o+x", *sorted(above)])
        self.run(["python", "-m", "ensurepip", "--default-pip"])

    def build(self, stage: str) -> list[str]:
        """Run the steps of a stage itself; return the COPY steps that were left out, as they read other images."""
        left_out = []
        for instruction, text in read_dockerfile()[1][stage].steps:
            if instruction == "RUN":
                self.run(["/bin/sh", "-c", text], environment={**self._arguments, **_SPARE}, is_online=True)
            elif instruction == "COPY" and not sources_of(text)[0]:
                left_out.append(text)
            else:
                self._apply(instruction, text)
        return left_out

    def _leave_out_people(self) -> None:
        """Give the image only the users of the system, as Docker's images have them."""
        (self.upper / "etc").mkdir()
        for names, secrets in (("passwd", "shadow"), ("group", "gshadow")):
            lines = pathlib.Path("/etc", names).read_text().splitlines()
            system = {line.split(":")[0] for line in lines if not _FIRST_UID <= int(line.split(":")[2]) < _NOBODY}
            for name in (names, secrets):
                lines = pathlib.Path("/etc", name).read_text().splitlines()
                kept = [line for line in lines if line.split(":")[0] in system]
                (self.upper / "etc" / name).write_text("\n".join(kept) + "\n")

    def _apply(self, instruction: str, text: str) -> None:
        if instruction == "ENV":
            for pair in shlex.split(text):
                name, _, value = pair.partition("=")
                self.environment[name] = value
        elif instruction == "ARG":
            name, _, default = text.partition("=")
            self._arguments[name] = self._given.get(name, default.strip('"'))
        elif instruction == "WORKDIR":
            self._work_dir = os.path.join(self._work_dir, text)
            (self.upper / self._work_dir.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY":
            sources, target = sources_of(text)
            for source in sources:
                assert is_sent(source), f"{source} is not sent to Docker"
                placed = self.upper / os.path.join(self._work_dir, target).lstrip("/")
                copy(source, placed, is_directory=target.endswith("/"))
        elif instruction == "USER":
            self.user = int(text)
        elif instruction == "ENTRYPOINT":
            self.entrypoint = json.loads(text)
        else:
            raise AssertionError(f"unknown instruction {instruction}")

    def run(self, command: list[str], *, environment: Mapping[str, str] | None = None, is_online: bool = False) -> str:
        """Return what a command in the image prints; it fails the test with its last lines.

        Args:
          command: program and arguments.
          environment: variables beside those of the image.
          is_online: True for a command that installs packages; others have a network of their own.
        """
        variables = {**self.environment, "HOME": self._home(), **(environment or {})}
        if is_online:
            variables = {**{k: v for k, v in os.environ.items() if _SETTINGS.fullmatch(k)}, **variables}
        inside = ["env", "--ignore-environment", *(f"{name}={value}" for name, value in variables.items()), *command]
        directory = shlex.quote(str(self._directory / "root"))
        script = "\n".join(
            [
                "set -e",
                *self._mounts(),
                "" if is_online else "ip link set lo up",
                f"exec chroot --userspec={self.user}:{self.user} {directory} "
                f"sh -c {shlex.quote(f'cd {self._work_dir} && exec {shlex.join(inside)}')}",
            ]
        )
        spaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if is_online else ["--net"])]
        done = subprocess.run(
            ["unshare", *spaces, "bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-6000:]}"
        return done.stdout

    def _mounts(self) -> Iterator[str]:
        """Yield the shell commands that put the file system together."""
        place = {name: shlex.quote(str(self._directory / name)) for name in ("upper", "work", "root", "site")}
        root = place["root"]
        yield "mount -t overlay overlay -o lowerdir=/,upperdir={upper},workdir={work} {root}".format(**place)
        yield f"mount --bind {root}{self._python.parent.parent} {root}/usr/local"
        yield f"mount --bind {place['site']} {root}/usr/local/lib/{self._python.name}/site-packages"
        for prefix in self._downloads:
            target = f"{root}/opt/python/cpython-{prefix.name}-linux-x86_64-gnu"
            yield f"mkdir -p {target} && mount --bind {root}{prefix} {target}"
        yield f"mkdir -p {self._cache} {root}/var/cache/uv && mount --bind {self._cache} {root}/var/cache/uv"
        yield f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && mount -t tmpfs tmpfs {root}/tmp"
        yield f"chmod 1777 {root}/tmp"

    def _home(self) -> str:
        users = self.upper / "etc/passwd"
        for line in (users if users.exists() else pathlib.Path("/etc/passwd")).read_text().splitlines():
            fields = line.split(":")
            if int(fields[2]) == self.user:
                return fields[5]
        return "/"


def _find(version: str) -> pathlib.Path:
    """Return the path of a Python, without links; skip the test if there is none."""
    path = find_python(version)
    if path is None:
        pytest.skip(f"no Python {version} on this machine")
    return pathlib.Path(path).resolve()


def fill(text: str, arguments: Mapping[str, str]) -> str:
    """Return a text of the Dockerfile with the values of its variables."""
    return string.Template(text).substitute(arguments)

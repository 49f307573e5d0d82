"""Finds the tools that engines are built with, and the directory that they are built into; resolves jars there."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

BUILD = pathlib.Path(__file__).parents[2] / "build"
# Options of a JVM that lives for minutes: optimizing code that runs little took it half of its CPU time.
SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class ToolMissing(Exception):
    """A tool is not on this machine, so that the engine's tests cannot run here."""


def find_tool(name: str, *, engine: str) -> str:
    """The path of an executable.

    Raises:
      ToolMissing: it is not on PATH.
    """
    path = shutil.which(name)
    if path is None:
        raise ToolMissing(f"{engine} needs `{name}`, which is not on PATH: its tests are skipped.")
    return path


def resolve_jars(pom: pathlib.Path, directory: pathlib.Path, *, engine: str) -> None:
    """Let Maven copy the dependencies of a POM, once per version of the POM.

    Its copy among the jars says that they are all there.

    Args:
      pom: what is needed.
      directory: where the jars are put, and nothing else is.
      engine: who needs them, for messages.

    Raises:
      ToolMissing: there is no Maven.
    """
    resolved = directory / pom.name
    if resolved.exists() and resolved.read_text() == pom.read_text():
        return
    maven = find_tool("mvn", engine=engine)
    shutil.rmtree(directory, ignore_errors=True)
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={directory}", "-DincludeScope=runtime"]
    options = " ".join([os.environ.get("MAVEN_OPTS", ""), *SHORT_LIVED])
    command = [maven, "--batch-mode", "--quiet", "--file", str(pom), *goal]
    subprocess.run(command, check=True, env={**os.environ, "MAVEN_OPTS": options})
    shutil.copy(pom, resolved)

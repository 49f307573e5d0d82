"""A Flink in one JVM, behind Beam's job server for it: jars resolved by Maven from flink_pom.xml."""

from __future__ import annotations

import os
import pathlib

from tests.engines.tools import BUILD, SHORT_LIVED, find_tool, resolve_jars

NAME = "Flink"
ANNOUNCEMENT = "JobService started on "
# Subtasks, not the machine's number of cores: each starts script processes.
OPTIONS = ("--parallelism=2",)

_POM = pathlib.Path(__file__).with_name("flink_pom.xml")
JARS = BUILD / "flink"
# Flink's serializers reach into the classes of the JDK, which Java 17 allows nobody by itself.
_PACKAGES = ("java.lang", "java.lang.invoke", "java.net", "java.nio", "java.time", "java.util", "java.util.concurrent")
OPENED = tuple(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _PACKAGES)


def build() -> None:
    """Resolve the jars."""
    find_tool("java", engine=NAME)
    resolve_jars(_POM, JARS, engine=NAME)


def command(directory: pathlib.Path) -> list[str]:
    """The job server's command, on free ports, with an embedded Flink for each job."""
    return [
        find_tool("java", engine=NAME),
        "-Xmx1g",
        *SHORT_LIVED,
        f"-Djava.io.tmpdir={directory}",
        *OPENED,
        "-cp",
        os.path.join(JARS, "*"),
        "org.apache.beam.runners.flink.FlinkJobServerDriver",
        "--flink-master=[local]",
        "--job-host=localhost",
        "--job-port=0",
        "--artifact-port=0",
        "--expansion-port=0",
        f"--artifacts-dir={directory}",
    ]

"""A Flink in one JVM, behind Beam's job server for it: jars resolved by Maven from flink_pom.xml."""

from __future__ import annotations

import pathlib

from tests.engines import job_server
from tests.engines.tools import BUILD, find_tool, resolve_jars

NAME = "Flink"
ANNOUNCEMENT = job_server.ANNOUNCEMENT
# Subtasks, not the machine's number of cores: each starts script processes.
OPTIONS = ("--parallelism=2",)

_POM = pathlib.Path(__file__).with_name("flink_pom.xml")
JARS = BUILD / "flink"
# Flink's serializers reach into these.
OPENED = job_server.opened(
    "java.lang", "java.lang.invoke", "java.net", "java.nio", "java.time", "java.util", "java.util.concurrent"
)


def build() -> None:
    """Resolve the jars."""
    find_tool("java", engine=NAME)
    resolve_jars(_POM, JARS, engine=NAME)


def command(directory: pathlib.Path, *, jars: tuple[pathlib.Path, ...] = ()) -> list[str]:
    """The job server's command, with an embedded Flink for each job; more jars on its class path."""
    return job_server.job_server(
        "org.apache.beam.runners.flink.FlinkJobServerDriver", "--flink-master=[local]", directory,
        engine=NAME, jars=[JARS, *jars], jvm=OPENED,
    )  # fmt: skip

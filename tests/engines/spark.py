"""A Spark in one JVM, behind Beam's job server for it: jars resolved by Maven from spark_pom.xml."""

from __future__ import annotations

import pathlib

from tests.engines import job_server
from tests.engines.tools import BUILD, find_tool, resolve_jars

NAME = "Spark"
ANNOUNCEMENT = job_server.ANNOUNCEMENT
OPTIONS = ()

_POM = pathlib.Path(__file__).with_name("spark_pom.xml")
_JARS = BUILD / "spark"
_MAIN = "org.apache.beam.runners.spark.SparkJobServerDriver"
_OPENED = (
    "java.io", "java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.nio", "java.util",
    "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.security.action",
    "sun.util.calendar",
)  # fmt: skip
_JVM = (
    *job_server.opened(*_OPENED),
    # At its usual level, a job of a second logs a hundred lines.
    "-Dorg.slf4j.simpleLogger.log.org.apache.spark=warn",
    "-Dorg.slf4j.simpleLogger.log.org.sparkproject=warn",
    "-Dspark.ui.enabled=false",
    "-Dspark.driver.bindAddress=localhost",
    "-Dspark.driver.host=localhost",
)


def build() -> None:
    """Resolve the jars."""
    find_tool("java", engine=NAME)
    resolve_jars(_POM, _JARS, engine=NAME)


def command(directory: pathlib.Path, *, master: str = "local[2]", jvm: tuple[str, ...] = ()) -> list[str]:
    """The job server's command; two threads run the tasks of its jobs."""
    return job_server.job_server(
        _MAIN, f"--spark-master-url={master}", directory, engine=NAME, jars=[_JARS], jvm=(*_JVM, *jvm)
    )


def write_jar(path: pathlib.Path) -> None:
    """Write a jar in place of the one that `SparkRunner` downloads."""
    job_server.write_jar(path, _MAIN, jars=[_JARS], packages=_OPENED)

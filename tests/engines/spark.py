"""A Spark in one JVM, behind Beam's job server for it: jars resolved by Maven from spark_pom.xml."""

from __future__ import annotations

import pathlib
import zipfile

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
        _MAIN, f"--spark-master-url={master}", _JARS, directory, engine=NAME, jvm=(*_JVM, *jvm)
    )


def write_jar(path: pathlib.Path) -> None:
    """Write a jar that starts the job server from the resolved jars, in place of the one that `SparkRunner` downloads.

    https://docs.oracle.com/en/java/javase/17/docs/specs/jar/jar.html has the form of its manifest.
    """
    manifest = {
        "Manifest-Version": "1.0",
        "Main-Class": _MAIN,
        "Class-Path": " ".join(jar.as_uri() for jar in sorted(_JARS.glob("*.jar"))),
        "Add-Opens": " ".join(f"java.base/{package}" for package in _OPENED),
    }
    lines = []
    for name, value in manifest.items():
        line = f"{name}: {value}"
        # A line has at most 72 bytes; one that begins with a space continues the line before.
        lines += [line[:70], *(f" {line[at : at + 70]}" for at in range(70, len(line), 70))]
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "\n".join(lines) + "\n")

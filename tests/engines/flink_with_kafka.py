"""The Flink in one JVM with Beam's Kafka source on its class path, so that the source runs within Flink.

Jars beside Flink's: resolved by Maven from kafka_io_pom.xml.
"""

from __future__ import annotations

import pathlib

from tests.engines import flink, job_server
from tests.engines.tools import BUILD, resolve_jars

NAME = flink.NAME
ANNOUNCEMENT = flink.ANNOUNCEMENT
OPTIONS = flink.OPTIONS

_POM = pathlib.Path(__file__).with_name("kafka_io_pom.xml")
_JARS = BUILD / "kafka-io"


def build() -> None:
    """Resolve the jars."""
    flink.build()
    resolve_jars(_POM, _JARS, engine=NAME)


def command(directory: pathlib.Path) -> list[str]:
    """The job server's command."""
    return flink.command(directory, jars=(_JARS,))


def write_expansion_service(path: pathlib.Path) -> None:
    """Write a jar in place of the expansion service that Beam downloads for Kafka."""
    job_server.write_jar(path, "org.apache.beam.sdk.expansion.service.ExpansionService", jars=[flink.JARS, _JARS])

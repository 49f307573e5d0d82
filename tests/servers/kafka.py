"""A Kafka of one node, and programs that write and read a topic of it: jars resolved by Maven from kafka_pom.xml."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterable, Iterator

from tests.engines.tools import BUILD, find_tool, resolve_jars

NAME = "Kafka"
# Of the two listeners of the node, this is the one for clients, on a port of its own choice.
ANNOUNCEMENT = "Opened wildcard endpoint "

_POM = pathlib.Path(__file__).with_name("kafka_pom.xml")
_JARS = BUILD / "kafka"
_LOGGING = """
log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%p %c %m%n
"""
_STOP_S = 20.0


def build() -> None:
    """Resolve the jars."""
    find_tool("java", engine=NAME)
    resolve_jars(_POM, _JARS, engine=NAME)


def command(directory: pathlib.Path) -> list[str]:
    """The command of the node, with its data in a directory; topics come to be when they are first written to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        controller = free.getsockname()[1]
    settings = {
        "process.roles": "broker,controller", "node.id": "1", "log.dirs": str(directory / "data"),
        "controller.quorum.voters": f"1@localhost:{controller}", "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://localhost:0,CONTROLLER://localhost:{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "num.partitions": "2", "offsets.topic.num.partitions": "1", "offsets.topic.replication.factor": "1",
        "group.initial.rebalance.delay.ms": "0",
    }  # fmt: skip
    properties = directory / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    (directory / "log4j.properties").write_text(_LOGGING)
    logging = f"-Dlog4j.configuration=file:{directory}/log4j.properties"
    identity = uuid.uuid4().hex[:22]
    format_disk = _java(logging, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(properties))
    serve = _java(logging, "kafka.Kafka", str(properties))
    return ["sh", "-c", f"{shlex.join(format_disk)} && exec {shlex.join(serve)}"]


class Writer:
    """A program that writes the records of a topic, on any of its partitions."""

    def __init__(self, address: str, topic: str):
        self._process = subprocess.Popen(
            # By itself, the program keeps to one partition for a while, and another one stays empty.
            _java(
                "kafka.tools.ConsoleProducer", "--bootstrap-server", address, "--topic", topic,
                "--property", "parse.key=true", "--property", "key.separator=|",
            ),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def write(self, values: Iterable[str]) -> None:
        """Write records, one per value."""
        self._process.stdin.writelines(f"{uuid.uuid4().hex}|{value}\n" for value in values)
        self._process.stdin.flush()

    def close(self) -> None:
        """End when all records are written."""
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Reader:
    """A program that reads the records of a topic from the first one on.

    Attributes:
      values: of the records, as they come.
    """

    def __init__(self, address: str, topic: str):
        self.values: list[str] = []
        consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer"
        self._process = subprocess.Popen(
            _java(consumer, "--bootstrap-server", address, "--topic", topic, "--from-beginning"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.values.append(line.rstrip("\n"))

    def close(self) -> None:
        """End at once."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()


@contextlib.contextmanager
def topics(address: str, written: str, read: str) -> Iterator[tuple[Writer, Reader]]:
    """A writer and a reader of topics, while the block lasts."""
    with contextlib.ExitStack() as stack:
        writer, reader = Writer(address, written), Reader(address, read)
        stack.callback(writer.close)
        stack.callback(reader.close)
        yield writer, reader


def _java(*arguments: str) -> list[str]:
    return [find_tool("java", engine=NAME), "-Xmx256m", "-cp", os.path.join(_JARS, "*"), *arguments]

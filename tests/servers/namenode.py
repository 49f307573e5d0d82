"""A namenode with one datanode, as Hadoop has them, in one JVM: jars resolved by Maven from hdfs_pom.xml."""

from __future__ import annotations

import os
import pathlib

from tests.engines.tools import BUILD, SHORT_LIVED, find_tool, resolve_jars

NAME = "HDFS"
ANNOUNCEMENT = "WebHDFS is at "

_HERE = pathlib.Path(__file__).parent
_POM = _HERE / "hdfs_pom.xml"
_JARS = BUILD / "hdfs"


def build() -> None:
    """Resolve the jars."""
    find_tool("java", engine=NAME)
    resolve_jars(_POM, _JARS, engine=NAME)


def command(directory: pathlib.Path) -> list[str]:
    """The command of the two, on free ports."""
    program = [str(_HERE / "Namenode.java"), str(directory / "hdfs")]
    # Its web framework makes classes in a way that newer Javas allow nobody by itself.
    opened = "--add-opens=java.base/java.lang=ALL-UNNAMED"
    java = [find_tool("java", engine=NAME), "-Xmx512m", *SHORT_LIVED, opened]
    return [*java, "-cp", os.path.join(_JARS, "*"), *program]

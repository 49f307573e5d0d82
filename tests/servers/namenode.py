"""A namenode with one datanode, as Hadoop has them, in one JVM: jars resolved by Maven from hdfs_pom.xml."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

from tests.engines.tools import BUILD, find_tool

NAME = "HDFS"
ANNOUNCEMENT = "WebHDFS is at "

_HERE = pathlib.Path(__file__).parent
_POM = _HERE / "hdfs_pom.xml"
_JARS = BUILD / "hdfs"


def build() -> None:
    """Resolves the jars, once a version of the POM, whose copy among them says that they are all there."""
    find_tool("java", engine=NAME)
    resolved = _JARS / _POM.name
    if resolved.exists() and resolved.read_text() == _POM.read_text():
        return
    maven = find_tool("mvn", engine=NAME)
    shutil.rmtree(_JARS, ignore_errors=True)
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={_JARS}", "-DincludeScope=runtime"]
    subprocess.run([maven, "--batch-mode", "--quiet", "--file", str(_POM), *goal], check=True)
    shutil.copy(_POM, resolved)


def command(directory: pathlib.Path) -> list[str]:
    """The command of the two, on free ports."""
    program = [str(_HERE / "Namenode.java"), str(directory / "hdfs")]
    # Its web framework makes classes in a way that newer Javas allow nobody by itself.
    opened = "--add-opens=java.base/java.lang=ALL-UNNAMED"
    return [find_tool("java", engine=NAME), "-Xmx512m", opened, "-cp", os.path.join(_JARS, "*"), *program]

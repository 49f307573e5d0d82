"""Beam's job servers in Java: what their commands have in common."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from tests.engines.tools import SHORT_LIVED, find_tool

# What the log of each says before its address.
ANNOUNCEMENT = "JobService started on "


def job_server(
    main: str, master: str, jars: pathlib.Path, directory: pathlib.Path, *, engine: str, jvm: Sequence[str]
) -> list[str]:
    """Return the command of a job server on free ports.

    Args:
      main: its Java class.
      master: the option that says where jobs run.
      jars: the directory of its jars.
      directory: where it may write.
      engine: who needs it, for messages.
      jvm: more options of the JVM.
    """
    return [
        find_tool("java", engine=engine), "-Xmx1g", *SHORT_LIVED, f"-Djava.io.tmpdir={directory}", *jvm,
        "-cp", os.path.join(jars, "*"), main, master,
        "--job-host=localhost", "--job-port=0", "--artifact-port=0", "--expansion-port=0",
        f"--artifacts-dir={directory}",
    ]  # fmt: skip


def opened(*packages: str) -> tuple[str, ...]:
    """Return options of a JVM that open packages of the JDK: since Java 17, it lets nobody reach into them."""
    return tuple(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in packages)

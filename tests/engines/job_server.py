"""Beam's job servers in Java: what their commands have in common."""

from __future__ import annotations

import os
import pathlib
import zipfile
from collections.abc import Sequence

from tests.engines.tools import SHORT_LIVED, find_tool

# What the log of each says before its address.
ANNOUNCEMENT = "JobService started on "


def job_server(
    main: str, master: str, directory: pathlib.Path, *, engine: str, jars: Sequence[pathlib.Path], jvm: Sequence[str]
) -> list[str]:
    """Return the command of a job server on free ports.

    Args:
      main: its Java class.
      master: the option that says where jobs run.
      directory: where it may write.
      engine: who needs it, for messages.
      jars: directories of its jars.
      jvm: more options of the JVM.
    """
    return [
        find_tool("java", engine=engine), "-Xmx1g", *SHORT_LIVED, f"-Djava.io.tmpdir={directory}", *jvm,
        "-cp", os.pathsep.join(os.path.join(folder, "*") for folder in jars), main, master,
        "--job-host=localhost", "--job-port=0", "--artifact-port=0", "--expansion-port=0",
        f"--artifacts-dir={directory}",
    ]  # fmt: skip


def opened(*packages: str) -> tuple[str, ...]:
    """Return options of a JVM that open packages of the JDK: since Java 17, it lets nobody reach into them."""
    return tuple(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in packages)


def write_jar(path: pathlib.Path, main: str, *, jars: Sequence[pathlib.Path], packages: Sequence[str] = ()) -> None:
    """Write a jar that starts a program from jars elsewhere, in place of one that Beam downloads.

    https://docs.oracle.com/en/java/javase/17/docs/specs/jar/jar.html has the form of its manifest.

    Args:
      path: where the jar is written.
      main: the program's Java class.
      jars: directories of its jars.
      packages: packages of the JDK that are opened to it.
    """
    manifest = {
        "Manifest-Version": "1.0",
        "Main-Class": main,
        "Class-Path": " ".join(jar.as_uri() for folder in jars for jar in sorted(folder.glob("*.jar"))),
        "Add-Opens": " ".join(f"java.base/{package}" for package in packages),
    }
    lines = []
    for name, value in manifest.items():
        line = f"{name}: {value}"
        # A line has at most 72 bytes; one that begins with a space continues the line before.
        lines += [line[:70], *(f" {line[at : at + 70]}" for at in range(70, len(line), 70))]
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "\n".join(lines) + "\n")

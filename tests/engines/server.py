"""Starts an engine's job server, waits for it, and ends it, whatever happens to whom it was started for."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

_START_S = 120.0
_STOP_S = 20.0

# Ends the server when its own input ends: that the other end of the pipe is closed, by hand or by a death, is all that
# it takes. In a session of its own, for Ctrl-C to reach the tests alone, which use the server until they have ended.
_KEEPER = '"$@" </dev/null & server=$!; read -r _; kill $server; wait $server'


@contextmanager
def started(engine, directory: pathlib.Path) -> Iterator[str]:
    """The address of an engine's job server, which lives as long as the block."""
    log = directory / "server.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(
            ["sh", "-c", _KEEPER, "sh", *engine.command(directory)],
            stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            cwd=directory, env={**os.environ, "TMPDIR": str(directory)},
        )  # fmt: skip
    try:
        yield _wait_for_address(engine, log)
    finally:
        server.stdin.close()
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_for_address(engine, log: pathlib.Path) -> str:
    """The port was the server's choice: its log tells it."""
    deadline = time.monotonic() + _START_S
    while True:
        text = log.read_text(errors="replace")
        if found := re.search(re.escape(engine.ANNOUNCEMENT) + r"(localhost:\d+)", text):
            return found[1]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{engine.NAME}'s job server was not up after {_START_S:g} s. Its log:\n{text[-4000:]}")
        time.sleep(0.1)

"""One script process: its group ends with it, and its id stays its own until all of it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from beam_tfscript.worker.exit_status import ExitStatus
from beam_tfscript.worker.guardian import Guardian
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec
from tests.test_faults import is_gone, wait_until

# An interpreter that starts another process of its group, and ends.
LEAVES_A_CHILD = """#!/bin/sh
sleep 600 &
echo $! > "$CHILD"
exit 3
"""


@pytest.fixture
def guardian(tmp_path):
    made = Guardian(str(tmp_path / "scratch"))
    yield made
    made.close()


def test_what_the_process_started_ends_though_it_ended_before(tmp_path, guardian):
    python = tmp_path / "python"
    python.write_text(LEAVES_A_CHILD)
    python.chmod(0o755)
    (tmp_path / "scratch").mkdir()
    child = tmp_path / "child"
    spec = ProcessSpec("key", "score.py", str(python), str(tmp_path), {"CHILD": str(child)}, 0, 60)
    process = ScriptProcess.start(spec, str(tmp_path / "scratch"), guardian)
    wait_until(lambda: process.returncode is not None, 10)
    # Not reaped: nobody else can have its id, or its group's.
    assert process.returncode == 3 and os.path.exists(f"/proc/{process.pid}")
    started = int(child.read_text())
    assert not is_gone(started)
    process.kill()
    wait_until(lambda: is_gone(started), 10)
    assert not os.path.exists(f"/proc/{process.pid}") and process.returncode == 3


def test_status_is_kept_when_somebody_else_has_reaped_the_process():
    popen = subprocess.Popen([sys.executable, "-c", "pass"])
    status = ExitStatus(popen)
    popen.wait()
    assert status.wait(10) and status.returncode == 0
    status.close()


@pytest.mark.parametrize("with_descriptor", [True, False])
def test_wait_for_an_end_is_bounded(with_descriptor, monkeypatch):
    if not with_descriptor:
        monkeypatch.delattr(os, "pidfd_open")
    popen = subprocess.Popen(["sleep", "600"])
    status = ExitStatus(popen)
    try:
        assert not status.wait(0.2) and status.returncode is None
        popen.send_signal(signal.SIGTERM)
        assert status.wait(10) and status.returncode == -signal.SIGTERM
    finally:
        popen.kill()
        popen.wait()
        status.close()

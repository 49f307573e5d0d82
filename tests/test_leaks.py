"""Leak check of the tests: it allows idle processes of the shared pool and what belongs to them, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading

import pytest

from beam_tfscript.files.staging import stage_runtime
from beam_tfscript.runtime.transport.scratch import PREFIX
from beam_tfscript.worker.process_spec import ProcessSpec
from tests import leaks
from tests.warm import WarmPool, is_shared
from tests.without_tensorflow import BLOCKED


class User:
    """Stands for a DoFn instance; the pool holds it weakly."""


@pytest.fixture
def user():
    return User()


@pytest.fixture
def pool(user):
    fresh = WarmPool()
    fresh.register("key", user)
    yield fresh
    fresh.shutdown()


@pytest.fixture
def left(pool, user, tmp_path, monkeypatch):
    """Look for leaks while one process of the pool is idle; the snapshot before them is taken here."""
    monkeypatch.setattr(leaks, "is_shared", lambda process: True)  # also without TensorFlow
    stage_runtime(str(tmp_path / "runtime"))
    spec = ProcessSpec("key", "leaks.py", sys.executable, str(tmp_path / "runtime"), {"PYTHONPATH": BLOCKED}, 0, 60)
    before = leaks._snapshot(False, pool)
    with pool.lease(spec, max_processes=1, user=user) as lease:
        kinds = {name.split()[0] for name in leaks._left_since(before, False, pool)}
        assert kinds == {"process", "thread", "directory", "descriptor"}, "a leased process counts"
        lease.keep()
    return lambda: leaks._left_since(before, False, pool)


def test_idle_process_may_stay_with_all_that_it_has(left):
    assert left() == []


def test_idle_process_that_no_test_shares_is_found(left, monkeypatch):
    monkeypatch.setattr(leaks, "is_shared", is_shared)
    assert {name.split()[0] for name in left()} == {"process", "thread", "directory", "descriptor"}


def test_descriptor_is_found(left):
    read, write = os.pipe()
    try:
        assert [name.split()[0] for name in left()] == ["descriptor"] * 2
    finally:
        os.close(read)
        os.close(write)


def test_process_is_found(left):
    with subprocess.Popen(["sleep", "600"]) as child:
        try:
            assert left() == [f"process {child.pid} sleep"]
        finally:
            child.kill()


def test_thread_is_found(left):
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="beam_tfscript-log leaks.py")
    thread.start()
    try:
        assert [name.rsplit(None, 1)[0] for name in left()] == ["thread beam_tfscript-log leaks.py"]
    finally:
        go_on.set()
        thread.join()


def test_scratch_directory_is_found(left):
    with tempfile.TemporaryDirectory(prefix=PREFIX) as path:
        assert left() == [f"directory {path}"]


@pytest.mark.parametrize("kind", leaks._SHORT_LIVED)
def test_directory_of_a_run_in_the_pools_own_is_found(left, pool, kind):
    with tempfile.TemporaryDirectory(prefix=kind, dir=pool.scratch()) as path:
        assert left() == [f"directory {path}"]

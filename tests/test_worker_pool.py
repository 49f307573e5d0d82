"""The pool with real script processes: bounded, in order, reused, and gone when nobody needs them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.script.staging import stage_runtime
from beam_tfscript.worker import pool as pool_module
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process import ProcessSpec
from tests.test_faults import wait_until


class User:
    """Stands for a DoFn instance; the pool holds it weakly."""


@pytest.fixture
def user():
    return User()


@pytest.fixture
def pool(user):
    fresh = ProcessPool()
    fresh.register("key", user)
    yield fresh
    fresh.shutdown()


@pytest.fixture
def spec(pool):
    """Interpreters without TensorFlow, which the pool does not care about, start in a tenth of a second."""
    runtime = os.path.join(pool.scratch(), "runtime")
    stage_runtime(runtime)
    blocked = os.path.join(pool.scratch(), "blocked")
    os.makedirs(os.path.join(blocked, "tensorflow"))
    with open(os.path.join(blocked, "tensorflow", "__init__.py"), "w") as module:
        module.write("raise ImportError('not here')\n")
    return ProcessSpec("key", "pooled.py", sys.executable, runtime, {"PYTHONPATH": blocked}, 0, 60)


def lease_once(pool, spec, user, *, keep=True):
    with pool.lease(spec, max_processes=2, user=user) as lease:
        if keep:
            lease.process.runs += 1
            lease.keep()
        return lease.process


def test_process_is_reused(pool, spec, user):
    first = lease_once(pool, spec, user)
    assert lease_once(pool, spec, user) is first


def test_process_that_was_not_kept_is_ended(pool, spec, user):
    first = lease_once(pool, spec, user, keep=False)
    assert first.returncode is not None
    assert lease_once(pool, spec, user) is not first


def test_dead_idle_process_is_replaced(pool, spec, user):
    first = lease_once(pool, spec, user)
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: first.returncode is not None, 10)
    assert lease_once(pool, spec, user) is not first


def test_early_start_is_what_the_first_lease_gets(pool, spec, user):
    pool.warm(spec)
    pool.warm(spec)
    with pool.lease(spec, max_processes=2, user=user) as lease:
        assert lease.is_fresh
        assert len(os.listdir(pool.scratch())) == 4  # lock, runtime, blocked, one process


def test_leases_are_bounded_and_in_order(pool, spec, user):
    order, most = [], []
    lock = threading.Lock()

    def work(number):
        with pool.lease(spec, max_processes=2, user=user) as lease:
            with lock:
                order.append(number)
                most.append(len(pool._leased))
            time.sleep(0.1)
            lease.process.runs += 1
            lease.keep()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda number=number: len(pool._places._queues["key"]) + len(pool._leased) + len(order) > number, 10)
    for thread in threads:
        thread.join()
    assert sorted(order) == list(range(6)) and order[2:] == sorted(order[2:])
    assert max(most) == 2


def test_unregistering_ends_what_the_user_still_leases(pool, spec, user):
    lease = pool.lease(spec, max_processes=2, user=user)
    process = lease.__enter__().process
    scratch = pool.scratch()
    pool.unregister("key", user)
    assert process.returncode == -signal.SIGKILL
    assert not os.path.exists(scratch)
    lease.__exit__(None, None, None)


def test_idle_process_ends_after_a_while(pool, spec, user, monkeypatch):
    monkeypatch.setattr(pool_module, "IDLE_TIMEOUT_S", 0.5)
    other = ProcessPool()
    other.register("key", user)
    try:
        process = lease_once(other, spec, user)
        wait_until(lambda: process.returncode is not None, 20)
        assert lease_once(other, spec, user) is not process
    finally:
        other.shutdown()


def test_forgotten_user_does_not_keep_anything(spec, monkeypatch):
    monkeypatch.setattr(pool_module, "IDLE_TIMEOUT_S", 0.5)
    other = ProcessPool()
    forgotten = User()
    other.register("key", forgotten)
    process = lease_once(other, spec, forgotten)
    scratch = other.scratch()
    del forgotten
    wait_until(lambda: process.returncode is not None and not os.path.exists(scratch), 20)


def test_interpreter_that_does_not_start_is_told(pool, spec, user, tmp_path):
    import dataclasses

    broken = dataclasses.replace(spec, python=str(tmp_path / "python"))
    with pytest.raises(ScriptEnvironmentError, match="cannot be started"):
        lease_once(pool, broken, user)
    (tmp_path / "python").write_text("#!/bin/sh\necho wrong door >&2\nexit 4\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ScriptEnvironmentError, match=r"(?s)exit status 4 before it was ready.*wrong door"):
        lease_once(pool, broken, user)
    assert lease_once(pool, spec, user).returncode is None

"""The pool with real script processes: bounded, in order, reused, and gone when nobody needs them."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import resource
import signal
import sys
import threading
import time

import psutil
import pytest

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files.staging import stage_runtime
from beam_tfscript.worker import pool as pool_module
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process_spec import ProcessSpec
from tests.disks import tmpfs
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
        wait_until(lambda number=number: len(pool._slots._queues["key"]) + len(pool._leased) + len(order) > number, 10)
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
    broken = dataclasses.replace(spec, python=str(tmp_path / "python"))
    with pytest.raises(ScriptEnvironmentError, match="cannot be started"):
        lease_once(pool, broken, user)
    (tmp_path / "python").write_text("#!/bin/sh\necho wrong door >&2\nexit 4\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ScriptEnvironmentError, match=r"(?s)exit status 4 before it was ready.*wrong door"):
        lease_once(pool, broken, user)
    assert lease_once(pool, spec, user).returncode is None


def test_idle_process_serves_any_transform_that_would_start_the_same(pool, spec, user):
    first = lease_once(pool, spec, user)
    other = dataclasses.replace(spec, key="other", name="other.py")
    pool.register("other", user)
    assert lease_once(pool, other, user) is first and first.spec is other
    for different in (
        {"env": {**spec.env, "A": "b"}}, {"intra_op_parallelism": 2}, {"runtime_path": spec.runtime_path + os.sep},
    ):  # fmt: skip
        assert lease_once(pool, dataclasses.replace(other, **different), user) is not first
    assert lease_once(pool, spec, user) is first


def test_cluster_takes_no_process_that_has_had_a_run(pool, spec, user):
    used = lease_once(pool, spec, user)
    used.runs = 1  # which starting one would have counted
    (other,) = pool.acquire_all([spec], limit=1, owner=user, unused=True)
    assert other is not used
    pool.release(other, keep=True)
    assert pool.acquire_all([spec], limit=1, owner=user, unused=True) == [other]
    pool.release(other, keep=True)
    assert pool.acquire_all([spec] * 2, limit=2, owner=user, unused=False) in ([other, used], [used, other])


def test_idle_process_stays_while_another_transform_may_use_it(pool, spec, user):
    first = lease_once(pool, spec, user)
    other = dataclasses.replace(spec, key="other")
    another = User()
    pool.register("other", another)
    pool.warm(other)
    pool.unregister("key", user)
    time.sleep(1.0)
    assert first.returncode is None and lease_once(pool, other, another) is first
    pool.unregister("other", another)
    wait_until(lambda: first.returncode is not None, 10)


def test_transform_waits_for_its_own_places_alone(pool, spec, user):
    other = dataclasses.replace(spec, key="other")
    pool.register("other", user)
    with pool.lease(spec, max_processes=1, user=user), pool.lease(other, max_processes=1, user=user) as lease:
        assert lease.process.returncode is None


def take_descriptors(leave):
    """Open descriptors until so many are left; return them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    while True:
        try:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            break
    for descriptor in taken[-leave:] if leave else []:
        os.close(descriptor)
    return taken[:-leave] if leave else taken


@pytest.fixture
def few_descriptors():
    """Limit the number of descriptors that can still be opened, until the block ends."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    @contextlib.contextmanager
    def limit(more):
        gc.collect()
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 50, before[1]))
        taken = take_descriptors(more)
        try:
            yield
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    return limit


@pytest.mark.parametrize("left", [0, 1, 4, 12, 20])
def test_failed_start_of_one_task_gives_all_places_back(pool, spec, user, few_descriptors, left):
    pool.scratch()
    before = psutil.Process().children()
    with few_descriptors(left), pytest.raises(ScriptEnvironmentError, match="cannot be started.*Too many open files"):
        pool.acquire_all([spec] * 4, limit=4, owner=user, unused=False)
    assert psutil.Process().children() == before
    begin = time.monotonic()
    processes = pool.acquire_all([spec] * 4, limit=4, owner=user, unused=False)
    assert time.monotonic() - begin < 30 and len(processes) == 4
    for process in processes:
        pool.release(process, keep=False)


def test_full_disk_at_a_start_gives_all_places_back(pool, spec, user, tmp_path):
    pool.scratch()
    with tmpfs(tmp_path / "small", "size=8k,nr_inodes=3") as small:
        scratch = pool._scratch
        whole, scratch.path = scratch.path, str(small)
        try:
            with pytest.raises(ScriptEnvironmentError, match="cannot be started.*No space left"):
                pool.acquire_all([spec] * 4, limit=4, owner=user, unused=False)
        finally:
            scratch.path = whole
    for process in pool.acquire_all([spec] * 4, limit=4, owner=user, unused=False):
        pool.release(process, keep=False)


def test_wait_for_a_place_ends_with_an_error_that_names_who_has_it(pool, spec, user, monkeypatch, caplog):
    monkeypatch.setattr("beam_tfscript.worker.long_wait.LIMIT_S", 1.0)
    monkeypatch.setattr("beam_tfscript.worker.long_wait.NOTICE_S", 0.2)
    holder = pool.acquire(spec, max_processes=1, owner=user)
    holder.label = "score.py shard 3/8"
    begin = time.monotonic()
    with pytest.raises(
        ScriptEnvironmentError, match=rf"waited .* s for one of 1 processes.*shard 3/8 \(pid {holder.pid}"
    ):
        pool.acquire(spec, max_processes=1, owner=user)
    assert time.monotonic() - begin < 20
    assert "which 1 runs wait for; they are at: score.py shard 3/8" in caplog.text
    pool.release(holder, keep=False)
    pool.release(pool.acquire(spec, max_processes=1, owner=user), keep=False)


def test_wait_goes_on_while_the_holder_is_heard_of(pool, spec, user, monkeypatch):
    monkeypatch.setattr("beam_tfscript.worker.long_wait.LIMIT_S", 1.0)
    holder = pool.acquire(spec, max_processes=1, owner=user)
    got = []
    thread = threading.Thread(target=lambda: got.append(pool.acquire(spec, max_processes=1, owner=user)))
    thread.start()
    for _ in range(25):
        holder.channel.heard_at = time.monotonic()
        time.sleep(0.1)
    assert thread.is_alive()
    pool.release(holder, keep=False)
    thread.join(10)
    pool.release(got[0], keep=False)


def test_unregistering_lets_those_that_wait_go_on(pool, spec, user):
    another = User()
    pool.register("key", another)
    pool.acquire(spec, max_processes=1, owner=another)
    got = []
    thread = threading.Thread(target=lambda: got.append(pool.acquire(spec, max_processes=1, owner=user)))
    thread.start()
    time.sleep(0.3)
    pool.unregister("key", another)
    thread.join(10)
    pool.release(got[0], keep=False)


def test_files_are_there_until_the_processes_have_ended(pool, spec, user, monkeypatch):
    monkeypatch.setattr("beam_tfscript.worker.pool._REAPER_TICK_S", 0.1)
    process = lease_once(pool, spec, user)
    directory, close = pool.scratch(), process.close

    def close_slowly():
        time.sleep(1)
        there.append(os.path.isdir(directory))
        close()

    there = []
    monkeypatch.setattr(process, "close", close_slowly)
    pool.shutdown()
    assert there == [True] and process.returncode is not None and not os.path.exists(directory)


def test_shutdown_waits_for_processes_that_another_thread_is_ending(pool, spec, user, monkeypatch):
    process = lease_once(pool, spec, user)
    is_closing, close = threading.Event(), process.close

    def close_slowly():
        is_closing.set()
        time.sleep(1)
        close()

    monkeypatch.setattr(process, "close", close_slowly)
    monkeypatch.setattr("beam_tfscript.worker.pool.UNUSED_GRACE_S", 0.0)
    monkeypatch.setattr("beam_tfscript.worker.pool._REAPER_TICK_S", 0.1)
    pool.unregister("key", user)
    assert is_closing.wait(10)
    pool.shutdown()
    assert process.returncode is not None


def test_scratch_directory_is_removed_however_users_come_and_go(spec):
    """The alarm that removes it is set when it is made, and cancelled when it is removed: by several threads."""
    fresh = ProcessPool()
    users = [User() for _ in range(4)]

    def come_and_go(user):
        for _ in range(100):
            fresh.register("key", user)
            fresh.scratch()
            fresh.unregister("key", user)

    threads = [threading.Thread(target=come_and_go, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    forgotten = User()
    fresh.register("key", forgotten)
    scratch = fresh.scratch()
    del forgotten
    wait_until(lambda: not os.path.exists(scratch), 20)

"""Leases of devices by pools, with real processes: in order, given up by idle processes, and errors for lost holders.

Two pools share a machine's devices as two harnesses do: the kernel's locks belong to open files, not to processes.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import threading
import time

import pytest

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.files.staging import stage_runtime
from beam_tfscript.worker import device_leases, long_wait, pool_devices
from beam_tfscript.worker.device_shares import Demand
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process_spec import ProcessSpec
from tests.running import SCRIPTS_PYTHON
from tests.test_devices import Harness
from tests.test_faults import wait_until
from tests.without_tensorflow import BLOCKED

pytestmark = pytest.mark.cold


class User:
    """Stands for a DoFn instance; the pool holds it weakly."""


@pytest.fixture(autouse=True)
def devices(tmp_path, monkeypatch):
    """Set the list of this machine's devices; "0" unless the test sets another."""
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATOR_LOCKS", str(tmp_path / "locks"))

    def set_list(names):
        monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATORS", names)

    set_list("0")
    return set_list


@pytest.fixture
def user():
    return User()


@pytest.fixture
def pools(user):
    """Two pools, as of two harnesses."""
    made = [ProcessPool(), ProcessPool()]
    for pool in made:
        pool.register("key", user)
    yield made
    for pool in made:
        pool.shutdown()


@pytest.fixture
def spec(tmp_path):
    stage_runtime(str(tmp_path / "runtime"))
    return ProcessSpec(
        "key", "pooled.py", SCRIPTS_PYTHON, str(tmp_path / "runtime"), {"PYTHONPATH": BLOCKED}, 0, 60, accelerators=1
    )


def kind(spec, name, **changes):
    """Return the specification of another transform's processes, which are not interchangeable with those of `spec`."""
    return dataclasses.replace(spec, key=name, env={**spec.env, "KIND": name}, **changes)


def take(pool, spec, user):
    """Take a process, and wait until it is ready; it counts as a run's."""
    pool.register(spec.key, user)
    process = pool.acquire(spec, max_processes=4, owner=user)
    process.bundle_thread = None  # the test's thread stands for several bundles
    process.wait_ready()
    process.runs += 1
    return process


def start_taking(pool, spec, user, got):
    """Take a process on a thread of its own; return the thread once its run waits in the queue."""
    before = len(waiting())
    thread = threading.Thread(target=lambda: got.append(take(pool, spec, user)))
    thread.start()
    wait_until(lambda: len(waiting()) > before or not thread.is_alive(), 10)
    return thread


def files(prefix):
    directory = os.environ["BEAM_TFSCRIPT_ACCELERATOR_LOCKS"]
    return [name for name in os.listdir(directory) if name.startswith(prefix)] if os.path.isdir(directory) else []


def waiting():
    return files("wait-")


def give_up_fast(monkeypatch):
    monkeypatch.setattr(long_wait, "LIMIT_S", 1.0)
    monkeypatch.setattr(long_wait, "NOTICE_S", 0.2)


def test_device_of_a_dead_process_is_free_before_its_harness_knows(pools, spec, user):
    first = take(pools[0], spec, user)
    os.kill(first.pid, signal.SIGKILL)
    second = take(pools[1], spec, user)
    assert first.devices.ids == second.devices.ids == ("0",)
    assert first in pools[0]._leased
    for pool, process in zip(pools, (first, second)):
        pool.release(process, keep=False)


def test_forked_child_of_a_script_holds_the_device(pools, spec, user, tmp_path):
    """A child that has left the process group is not killed with it, and may use the device."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    os.closerange(0, 3)\n"
        f"    open({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    forking = dataclasses.replace(spec, env={"PYTHONPATH": f"{tmp_path / 'site'}:{BLOCKED}"})
    first = pools[0].acquire(forking, max_processes=1, owner=user)
    wait_until((tmp_path / "child").exists, 10)
    child = int((tmp_path / "child").read_text() or 0)
    pools[0].release(first, keep=False)
    got = []
    thread = start_taking(pools[1], spec, user, got)
    time.sleep(1)
    assert not got
    os.kill(child, signal.SIGKILL)
    thread.join(30)
    pools[1].release(got[0], keep=False)


def test_waiting_run_gets_the_device_when_it_is_freed(pools, spec, user):
    first = take(pools[0], spec, user)
    got = []
    thread = start_taking(pools[1], spec, user, got)
    time.sleep(0.5)
    assert not got and len(waiting()) == 1
    pools[0].release(first, keep=False)
    thread.join(30)
    assert got[0].devices.ids == ("0",) and not waiting()
    pools[1].release(got[0], keep=False)


def test_idle_process_of_another_harness_makes_room(pools, spec, user):
    idle = take(pools[0], spec, user)
    pools[0].release(idle, keep=True)
    begin = time.monotonic()
    other = take(pools[1], spec, user)
    assert idle.returncode is not None and time.monotonic() - begin < 20
    pools[1].release(other, keep=False)


def test_only_as_many_idle_processes_end_as_are_needed(pools, spec, user, devices):
    devices("0,1,2")
    idle = [take(pools[0], spec, user) for _ in range(3)]
    for process in idle:
        pools[0].release(process, keep=True)
    other = take(pools[0], kind(spec, "other"), user)
    assert [process.returncode is None for process in idle] == [False, True, True]
    pools[0].release(other, keep=False)


def test_idle_process_without_devices_stays(pools, spec, user):
    plain = take(pools[0], kind(spec, "plain", accelerators=None), user)
    idle = take(pools[0], spec, user)
    for process in (plain, idle):
        pools[0].release(process, keep=True)
    pools[1].release(take(pools[1], spec, user), keep=False)
    assert plain.returncode is None and idle.returncode is not None


def test_processes_with_other_shares_are_not_interchangeable(pools, spec, user, devices):
    devices("0,1,2")
    seen = []
    for accelerators in (1, 0.5, 0, None):
        process = take(pools[0], dataclasses.replace(spec, key=str(accelerators), accelerators=accelerators), user)
        assert process not in seen
        seen.append(process)
        pools[0].release(process, keep=True)


def test_process_gives_way_after_its_run_when_it_has_had_the_device_for_long(pools, spec, user, monkeypatch):
    monkeypatch.setattr(pool_devices, "YIELD_IDLE_S", 600.0)
    first = take(pools[0], spec, user)
    got = []
    thread = start_taking(pools[1], spec, user, got)
    pools[0].release(first, keep=True)
    assert take(pools[0], spec, user) is first, "for a while, the next bundle has it"
    monkeypatch.setattr(pool_devices, "YIELD_HELD_S", 0.0)
    pools[0].release(first, keep=True)
    assert first.returncode is not None
    thread.join(30)
    pools[1].release(got[0], keep=False)


def test_process_does_not_give_way_to_a_run_that_can_use_it_as_it_is(pools, spec, user, monkeypatch):
    monkeypatch.setattr(pool_devices, "YIELD_HELD_S", 0.0)
    first = take(pools[0], spec, user)
    got = []
    thread = start_taking(pools[0], spec, user, got)
    pools[0].release(first, keep=True)
    thread.join(30)
    assert got == [first]
    pools[0].release(first, keep=True)
    assert first.returncode is None


def test_runs_get_devices_in_the_order_in_which_they_came(pools, spec, user):
    first = take(pools[0], dataclasses.replace(spec, accelerators=0.5), user)
    whole, half = [], []
    for_whole = start_taking(pools[1], spec, user, whole)
    # There is room for it, but the run before would then never get a whole device.
    for_half = start_taking(pools[0], kind(spec, "half", accelerators=0.5), user, half)
    time.sleep(1)
    assert not half and len(waiting()) == 2
    pools[0].release(first, keep=False)
    for_whole.join(30)
    assert whole and not half
    pools[1].release(whole[0], keep=False)
    for_half.join(30)
    pools[0].release(half[0], keep=False)


def test_fractions_of_several_transforms_add_up(pools, spec, user):
    shares = [0.5, 0.25, 0.25]
    taken = [take(pools[i % 2], kind(spec, str(i), accelerators=share), user) for i, share in enumerate(shares)]
    got = []
    thread = start_taking(pools[1], kind(spec, "more", accelerators=0.25), user, got)
    time.sleep(0.7)
    assert not got
    pools[1].release(taken[1], keep=False)
    thread.join(30)
    for pool, process in ((pools[0], taken[0]), (pools[0], taken[2]), (pools[1], got[0])):
        pool.release(process, keep=False)


def test_early_process_has_a_device_and_gives_it_up(pools, spec, user):
    pools[0].warm(spec)
    (early,) = pools[0]._idle.since
    assert early.devices.ids == ("0",)
    other = take(pools[1], spec, user)
    assert early.returncode is not None
    pools[0].warm(spec)
    assert not pools[0]._idle
    pools[1].release(other, keep=False)


def test_early_process_is_what_the_first_run_gets(pools, spec, user):
    pools[0].warm(spec)
    (early,) = pools[0]._idle.since
    assert take(pools[0], spec, user) is early
    pools[0].release(early, keep=False)


def test_worker_without_devices_starts_nothing_early_and_fails_at_a_run(pools, spec, user, monkeypatch):
    monkeypatch.delenv("BEAM_TFSCRIPT_ACCELERATORS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    pools[0].warm(spec)
    assert not pools[0]._idle
    with pytest.raises(
        ScriptEnvironmentError, match="no accelerator is found.*CUDA_VISIBLE_DEVICES='', which names none"
    ):
        take(pools[0], spec, user)
    assert pools[0]._slots._taken["key"] == 0


def test_run_that_does_not_wait_keeps_its_place(pools, spec, user):
    """As the runs of a stream do, which wait in the runner's state and ask again."""
    idle = take(pools[0], spec, user)
    pools[0].release(idle, keep=True)
    assert pools[1].acquire_all([spec], limit=1, owner=user, unused=False, wait=False) is None
    assert len(waiting()) == 1
    wait_until(lambda: idle.returncode is not None, 10)
    # The place is in front of a run that came later.
    got = []
    thread = start_taking(pools[0], kind(spec, "later"), user, got)
    time.sleep(0.5)
    assert not got
    (process,) = pools[1].acquire_all([spec], limit=1, owner=user, unused=False, wait=False)
    pools[1].release(process, keep=False)
    thread.join(30)
    pools[0].release(got[0], keep=False)


def test_place_that_nothing_asks_for_any_more_is_given_up(pools, spec, user, monkeypatch):
    monkeypatch.setattr("beam_tfscript.worker.device_queue._KEPT_S", 0.5)
    monkeypatch.setattr("beam_tfscript.worker.pool._REAPER_TICK_S", 0.2)
    first = take(pools[0], spec, user)
    for _ in range(2):
        assert pools[1].acquire_all([spec], limit=1, owner=user, unused=False, wait=False) is None
        assert len(waiting()) == 1
    pools[1].scratch()
    wait_until(lambda: not waiting(), 10)
    pools[0].release(first, keep=False)


def test_wait_ends_with_an_error_that_names_the_holders(pools, spec, user, monkeypatch, caplog):
    give_up_fast(monkeypatch)
    holder = take(pools[0], spec, user)
    holder.label = "score.py shard 3/8"
    with pytest.raises(
        ScriptEnvironmentError,
        match=r"pooled.py: a run has waited \d+ s for accelerators_per_process=1; this worker has 1: 0 \(from "
        r"BEAM_TFSCRIPT_ACCELERATORS\). The processes that have them showed no sign of life for \d+ s: score.py shard "
        rf"3/8 \(pid {holder.pid}\). Check if their bundles hang",
    ):
        take(pools[0], kind(spec, "other"), user)
    assert "they are at: score.py shard 3/8" in caplog.text and not waiting()
    pools[0].release(holder, keep=False)
    pools[0].release(take(pools[0], spec, user), keep=False)


def test_holder_in_another_harness_is_named_by_its_process(pools, spec, user, monkeypatch, tmp_path):
    (tmp_path / "meeting").mkdir()
    harness = Harness(entry="stays", accelerators_per_process=1, user_params={"directory": str(tmp_path / "meeting")})
    try:
        wait_until((tmp_path / "meeting" / "started").exists, 60)
        give_up_fast(monkeypatch)
        with pytest.raises(
            ScriptEnvironmentError, match=f": devices.py of worker process {harness.process.pid}. Check"
        ):
            take(pools[0], spec, user)
    finally:
        harness.kill()


def test_wait_goes_on_while_the_holder_in_another_harness_is_heard_of(pools, spec, user, monkeypatch):
    monkeypatch.setattr("beam_tfscript.worker.pool._REAPER_TICK_S", 0.1)
    give_up_fast(monkeypatch)
    holder = take(pools[0], spec, user)
    got = []
    thread = start_taking(pools[1], spec, user, got)
    for _ in range(25):
        holder.channel.heard_at = time.monotonic()
        time.sleep(0.1)
    assert thread.is_alive()
    pools[0].release(holder, keep=False)
    thread.join(30)
    pools[1].release(got[0], keep=False)


def test_locked_queue_is_an_error_that_names_the_file(pools, spec, user, monkeypatch):
    pools[0].release(take(pools[0], spec, user), keep=False)
    give_up_fast(monkeypatch)
    mutex = os.path.join(os.environ["BEAM_TFSCRIPT_ACCELERATOR_LOCKS"], "lock")
    with open(mutex) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ScriptEnvironmentError, match=f"a process that does not unlock {mutex}"):
            take(pools[0], spec, user)
    pools[0].release(take(pools[0], spec, user), keep=False)


def test_directory_that_cannot_be_used_is_told_with_its_variable(pools, spec, user, tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATOR_LOCKS", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ScriptEnvironmentError, match="file is not a directory, or is a link. Set BEAM_TFSCRIPT_ACC"):
        take(pools[0], spec, user)


def test_failed_start_frees_the_devices_of_all_tasks(pools, spec, user, devices):
    devices("0,1")
    broken = dataclasses.replace(spec, python="/no/such/python")
    for specs in ([broken, broken], [spec, broken]):
        with pytest.raises(ScriptEnvironmentError, match="cannot be started"):
            pools[0].acquire_all(specs, limit=2, owner=user, unused=True)
        processes = pools[1].acquire_all([spec, spec], limit=2, owner=user, unused=True)
        assert sorted(process.devices.ids for process in processes) == [("0",), ("1",)]
        for process in processes:
            pools[1].release(process, keep=False)


def test_files_of_dead_processes_are_removed(pools, spec, user):
    for _ in range(3):
        pools[0].release(take(pools[0], spec, user), keep=False)
    pools[0].release(take(pools[0], spec, user), keep=False)
    assert len(files("lease-")) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a while")
def test_users_share_the_devices(pools, spec, user, devices, monkeypatch):
    """Another user's leases count, and files of dead processes of another user do not."""
    devices("0,1")
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:  # pytest's directories are closed to other users
        os.chmod(parent, 0o755)
        monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATOR_LOCKS", os.path.join(parent, "locks"))
        share_with_another_user(pools, spec, user)


def share_with_another_user(pools, spec, user):
    pools[0].release(take(pools[0], spec, user), keep=False)
    first = take(pools[0], spec, user)
    code = (
        "import os, sys\n"
        "from beam_tfscript.worker.device_leases import DeviceLeases\n"
        "from beam_tfscript.worker.device_shares import Demand\n"
        "os.umask(0o077); os.setgid(1); os.setuid(1)\n"
        "demand = Demand((1,), ('0', '1'))\n"
        "leases = DeviceLeases()\n"
        "(lease,) = leases.lease(demand, 'theirs', None)\n"
        "print(lease.ids[0], leases.lease(demand, 'more', None), flush=True)\n"
        "sys.stdin.read()\n"
    )
    root = pathlib.Path(__file__).parent.parent
    with subprocess.Popen(
        [SCRIPTS_PYTHON, "-c", code], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "1 None\n"
        got = []
        thread = start_taking(pools[1], spec, user, got)
        time.sleep(0.5)
        assert not got
        other.stdin.close()
        thread.join(30)
    assert got[0].devices.ids == ("1",)
    for pool, process in ((pools[0], first), (pools[1], got[0])):
        pool.release(process, keep=False)


@pytest.mark.parametrize("seed", range(2))
def test_processes_that_are_killed_at_any_point_never_share_a_device(tmp_path, seed):
    """No lock is lost, none stays, and every demand is met at some time: the queue is not stuck."""
    (tmp_path / "halves").mkdir()
    chance, running, leased = random.Random(seed), [], 0

    def start(number):
        running.append(
            subprocess.Popen(
                [SCRIPTS_PYTHON, "-m", "tests.device_rush", str(1000 * seed + number), str(tmp_path / "halves")],
                cwd=pathlib.Path(__file__).parent.parent,
                stdout=subprocess.PIPE,
            )
        )

    def end(process):
        process.kill()
        done = len(process.communicate()[0])
        assert process.returncode == -signal.SIGKILL
        return done

    try:
        for number in range(4):
            start(number)
        for number in range(4, 14):
            time.sleep(chance.random() * 0.8)
            leased += end(running.pop(chance.randrange(len(running))))
            start(number)
        time.sleep(2)
    finally:
        leased += sum(map(end, running))
    assert leased > 100
    (lease,) = device_leases.DeviceLeases().lease(Demand((3,), ("0", "1", "2")), "after", None)
    lease.close()
    assert not waiting()

"""Accelerators of script processes, by the public API: real processes and harnesses, and a made-up list of devices."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import apache_beam as beam
import psutil
import pytest

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.runtime.compat import run_configs
from beam_tfscript.runtime.transport.variables import LEASED_DEVICES
from beam_tfscript.worker.accelerators import find_accelerators
from tests.device_harness import SCHEMA, device_run
from tests.interpreters import find_python
from tests.running import script
from tests.test_faults import wait_until
from tests.test_two_transforms import Both
from tests.without_tensorflow import InBundles, blocked, ids, run_of

# Idle processes of these tests have accelerators, so no other test could use them.
pytestmark = pytest.mark.cold

THREADS = ["--direct_num_workers=4", "--direct_running_mode=multi_threading"]


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """Set the list of this machine's devices, for this process and for those that it starts."""
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATOR_LOCKS", str(tmp_path / "locks"))

    def set_list(names):
        monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATORS", names)

    return set_list


@pytest.fixture
def meeting(tmp_path):
    directory = tmp_path / "meeting"
    directory.mkdir()
    return str(directory)


def most_at_a_time(rows):
    """Return device -> the largest number of processes that had it at a time."""
    changes = collections.defaultdict(list)
    for row in rows:
        for device in row["devices"].split(","):
            changes[device] += [(row["began"], 1), (row["ended"], -1)]
    most = {}
    for device, times in changes.items():
        count = most[device] = 0
        for _, change in sorted(times):
            count += change
            most[device] = max(most[device], count)
    return most


class Harness:
    """Another harness, with a pipeline of its own.

    Args:
      arguments: of `device_run`.
    """

    def __init__(self, **arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.device_harness", json.dumps(arguments)],
            cwd=pathlib.Path(__file__).parent.parent,
            # What it leaves there is a leak of the test.
            env={**os.environ, "TMPDIR": tempfile.gettempdir()},
            stdout=subprocess.PIPE,
            text=True,
        )

    def rows(self):
        out, _ = self.process.communicate(timeout=200)
        assert self.process.returncode == 0
        return list(map(json.loads, out.splitlines()))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def start_harness():
    """Start harnesses, which are ended with the test."""
    started = []

    def start(**arguments):
        started.append(Harness(**arguments))
        return started[-1]

    yield start
    for harness in started:
        harness.kill()


def test_process_has_a_device_to_itself(in_memory, devices, tmp_path):
    devices("0,1")
    transform = device_run(
        "tells", tmp_path, num_workers=8, max_processes=4, accelerators_per_process=1, user_params={"seconds": 0.2}
    )
    rows = in_memory.run(transform, options=THREADS)
    assert len(rows) == 8 and {row["devices"] for row in rows} == {"0", "1"}
    assert most_at_a_time(rows) == {"0": 1, "1": 1}
    assert {row["growth"] for row in rows} == {"true"}
    # A process keeps its device for all of its runs.
    assert len({(row["pid"], row["devices"]) for row in rows}) == 2


def test_fraction_lets_processes_share_a_device(in_memory, devices, tmp_path, meeting):
    devices("0")
    params = {"directory": meeting, "count": 2}
    transform = device_run(
        "meets", tmp_path, num_workers=4, max_processes=4, accelerators_per_process=0.5, user_params=params
    )
    assert most_at_a_time(in_memory.run(transform, options=THREADS)) == {"0": 2}


def test_processes_share_a_device_only_if_there_are_more_of_them(in_memory, devices, tmp_path, meeting):
    devices("0,1")
    params = {"directory": meeting, "count": 2}
    transform = device_run("meets", tmp_path, num_workers=2, accelerators_per_process=0.25, user_params=params)
    assert {row["devices"] for row in in_memory.run(transform, options=THREADS)} == {"0", "1"}


def test_process_may_have_several_devices(in_memory, devices, tmp_path):
    devices("GPU-a, MIG-b,GPU-c")
    (row,) = in_memory.run(device_run("tells", tmp_path, accelerators_per_process=2))
    assert row["devices"] == "GPU-a,MIG-b"


@pytest.mark.parametrize(("accelerators", "seen"), [(None, "7"), (0, "")])
def test_without_a_lease_nothing_is_asked(in_memory, tmp_path, monkeypatch, accelerators, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATOR_LOCKS", str(tmp_path / "locks"))
    (row,) = in_memory.run(device_run("tells", tmp_path, accelerators_per_process=accelerators))
    assert (row["devices"], row["growth"]) == (seen, "unset")
    assert not (tmp_path / "locks").exists()


def test_user_may_turn_memory_growth_off(in_memory, devices, tmp_path):
    devices("0")
    env = {**blocked(tmp_path), "TF_FORCE_GPU_ALLOW_GROWTH": "false"}
    (row,) = in_memory.run(device_run("tells", tmp_path, accelerators_per_process=1, env=env))
    assert row["growth"] == "false"


@pytest.mark.parametrize("accelerators", [1, 0.5])
def test_harnesses_of_a_machine_share_its_devices(devices, start_harness, accelerators):
    devices("0,1")
    arguments = {"num_workers": 6, "accelerators_per_process": accelerators, "user_params": {"seconds": 0.2}}
    harnesses = [start_harness(entry="tells", **arguments) for _ in range(2)]
    rows = [harness.rows() for harness in harnesses]
    assert [len(of_one) for of_one in rows] == [6, 6]
    assert max(most_at_a_time(sum(rows, [])).values()) <= 1 / accelerators
    # Each had one at some time: an idle process of the one has given way to the other.
    assert all(of_one for of_one in rows)


def test_killed_process_frees_its_device(in_memory, devices, tmp_path):
    devices("0")
    begin = time.monotonic()
    (row,) = in_memory.run(device_run("dies_once", tmp_path, accelerators_per_process=1, max_attempts=2))
    assert row["devices"] == "0" and time.monotonic() - begin < 30
    assert in_memory.metrics["process_deaths"] == 1


def test_killed_harness_frees_its_devices(in_memory, devices, tmp_path, meeting, start_harness):
    devices("0")
    harness = start_harness(entry="stays", accelerators_per_process=1, user_params={"directory": meeting})
    wait_until(lambda: os.path.exists(os.path.join(meeting, "started")), 60)
    harness.process.kill()
    (row,) = in_memory.run(device_run("tells", tmp_path, accelerators_per_process=1))
    assert row["devices"] == "0"


def test_device_is_in_use_until_the_script_of_a_killed_harness_is_dead(
    in_memory, devices, tmp_path, meeting, start_harness
):
    """The guardian would kill the script process at once: it is killed, too."""
    devices("0")
    params = {"directory": meeting, "seconds": 8}
    harness = start_harness(entry="cannot_be_interrupted", accelerators_per_process=1, user_params=params)
    started = pathlib.Path(meeting, "started")
    wait_until(started.exists, 60)
    pid, began = map(int, started.read_text().split())
    guardians = [
        child for child in psutil.Process(harness.process.pid).children() if "guard_main" in str(child.cmdline())
    ]
    assert len(guardians) == 1
    for process in (*guardians, harness.process):
        process.send_signal(signal.SIGSTOP)  # so that the guardian does not see the harness's end first
    for process in (*guardians, harness.process):
        process.kill()
    harness.process.wait()
    assert psutil.pid_exists(pid)
    (row,) = in_memory.run(device_run("tells", tmp_path, accelerators_per_process=1))
    assert row["began"] >= began + 1000 * params["seconds"]


def test_idle_process_makes_room_for_a_run_of_another_kind(in_memory, devices, tmp_path):
    devices("0")
    first, second = (
        device_run(
            "tells", tmp_path, accelerators_per_process=1, input_schema="id string",
            env={**blocked(tmp_path), "KIND": name},
        )
        for name in "ab"
    )  # fmt: skip

    class InTurn(beam.PTransform):
        def expand(self, rows):
            told = rows | "First" >> first
            again = told | beam.Map(lambda row: {"id": str(row.pid)}).with_output_types(dict)
            return (told, again | "Second" >> second) | beam.Flatten()

    begin = time.monotonic()
    rows = in_memory.run(InTurn(), ids(10))
    assert {row["devices"] for row in rows} == {"0"} and len({row["pid"] for row in rows}) == 2
    assert most_at_a_time(rows) == {"0": 1}
    assert time.monotonic() - begin < 30  # idle processes end after a minute, too


def test_transform_with_the_same_processes_goes_on_with_the_idle_one(in_memory, devices, tmp_path):
    devices("0")
    first, second = (device_run("tells", tmp_path, accelerators_per_process=1, input_schema="id string") for _ in "ab")
    rows = in_memory.run(Both(first, second), ids(10))
    assert len(rows) == 2 and len({row["pid"] for row in rows}) == 1


def test_second_transform_of_a_bundle_needs_devices_of_its_own(in_memory, devices, tmp_path):
    """It would wait for the first one's process, which is given back when the second one has taken all rows."""
    first, second = (run_of("echo", "bundles", env=blocked(tmp_path), accelerators_per_process=1) for _ in "ab")
    devices("0")
    begin = time.monotonic()
    with pytest.raises(Exception, match="The same bundle has them already, for feeds.py .* beam.Reshuffle"):
        in_memory.run(Both(first, second, in_turn=True), ids(20_000))
    assert time.monotonic() - begin < 60
    devices("0,1")
    assert len(in_memory.run(Both(first, second, in_turn=True), ids(20_000))) == 40_000


@pytest.mark.parametrize("feed", ["dataset", "stream"])
def test_only_workers_of_a_cluster_get_devices(in_memory, devices, tmp_path, meeting, feed):
    devices("0,1,2")
    params = {"directory": meeting, "count": 4} if feed == "dataset" else {}
    transform = device_run(
        "meets" if feed == "dataset" else "tells_each_batch", tmp_path, num_workers=2, num_ps=1, num_evaluators=1,
        ps_main=True, accelerators_per_process=1, user_params=params, feed=feed, input_schema="id string",
    )  # fmt: skip
    found = {row["task"]: row["devices"] for row in in_memory.run(transform, ids(10))}
    assert found == {"chief:0": "0", "worker:0": "1", "ps:0": "", "evaluator:0": ""}


@pytest.mark.tensorflow
def test_training_gets_devices_for_its_workers(in_memory, devices, tmp_path, meeting):
    devices("0,1,2,3")
    transform = TrainTFScript(
        script("devices.py"), str(tmp_path / "models"), entry="trains", num_evaluators=1, accelerators_per_process=2,
        input_schema="id string", user_params={"directory": meeting},
    )  # fmt: skip
    (row,) = in_memory.run(transform, ids(10))
    assert row["attempt"] == 1
    assert {path.name: path.read_text() for path in pathlib.Path(meeting).iterdir()} == {
        "chief": "0,1",
        "evaluator": "",
    }


@pytest.mark.slow
def test_clusters_of_several_harnesses_take_all_their_devices_or_none(devices, start_harness):
    devices("0,1")
    arguments = {"num_workers": 2, "placement": "one_host", "accelerators_per_process": 1}
    harnesses = [start_harness(entry="tells", user_params={"seconds": 1}, **arguments) for _ in range(3)]
    rows = [harness.rows() for harness in harnesses]
    for of_one in rows:
        assert sorted(row["devices"] for row in of_one) == ["0", "1"]
    assert most_at_a_time(sum(rows, [])) == {"0": 1, "1": 1}


@pytest.mark.parametrize(
    ("arguments", "needs"),
    [
        ({"accelerators_per_process": 3}, "needs accelerators_per_process=3, and this worker has 2: GPU-a, GPU-b"),
        (
            {"accelerators_per_process": 1, "num_workers": 3, "placement": "one_host"},
            "needs accelerators_per_process=1 for each of 3 tasks at the same time, and this worker has 2: GPU-a",
        ),
    ],
)
def test_more_devices_than_the_machine_has_are_an_error_at_once(in_memory, devices, tmp_path, arguments, needs):
    devices("GPU-a,GPU-b")
    with pytest.raises(Exception, match=rf"devices.py {needs}.* \(from BEAM_TFSCRIPT_ACCELERATORS\)"):
        in_memory.run(device_run("tells", tmp_path, **arguments))


def test_stream_waits_for_a_device_without_its_bundle(tmp_path, devices, in_memory):
    """Of two shards, one has the device until its window ends; the other's rows wait in the runner's state."""
    from apache_beam.transforms.window import FixedWindows

    from tests.running import Runner

    devices("0")
    transform = device_run(
        "tells_each_batch", tmp_path, accelerators_per_process=1, feed="stream", input_schema="id string"
    )
    bundles = [ids(10, start=0), ids(10, start=10), ids(10, start=20)]
    rows = Runner("bundle_based", tmp_path).run(InBundles(transform, bundles, window=FixedWindows(10)))
    assert {row["devices"] for row in rows} == {"0"} and len(rows) >= 3


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8"])
def test_old_interpreters_get_devices_too(in_memory, devices, tmp_path, version):
    python = find_python(version)
    if python is None:
        pytest.skip(f"there is no Python {version}")
    devices("0")
    transform = RunTFScript(
        script("devices.py"), SCHEMA, entry="tells", user_params={}, accelerators_per_process=1,
        python_env=str(pathlib.Path(python).parent.parent), env=blocked(tmp_path),
    )  # fmt: skip
    (row,) = in_memory.run(transform)
    assert (row["devices"], row["growth"]) == ("0", "true")


def test_scripts_that_number_gpus_mean_those_of_their_process(monkeypatch):
    """Else `gpu_devices` of an Alink script would undo the lease: it sets CUDA_VISIBLE_DEVICES."""
    assert run_configs._names_of([2, 0]) == ["2", "0"]
    monkeypatch.setenv(LEASED_DEVICES, "GPU-a,GPU-b")
    assert run_configs._names_of([1, 0]) == ["GPU-b", "GPU-a"]
    with pytest.raises(ValueError, match=r"gpu_devices is \[2\], and this process has 2 GPUs"):
        run_configs._names_of([2])
    monkeypatch.setenv(LEASED_DEVICES, "")
    with pytest.raises(ValueError, match="has 0 GPUs"):
        run_configs._names_of([0])


@pytest.mark.gpu
@pytest.mark.tensorflow
def test_tensorflow_computes_on_the_gpus_that_are_leased(in_memory, tmp_path, monkeypatch):
    """On this machine's own GPUs, which must be free."""
    monkeypatch.delenv("BEAM_TFSCRIPT_ACCELERATORS", raising=False)
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATOR_LOCKS", str(tmp_path / "locks"))
    try:
        found = find_accelerators()
    except ScriptEnvironmentError as error:
        pytest.skip(f"this machine has no GPU: {error}")
    for share, processes in ((1, len(found.ids)), (0.5, 2)):
        transform = RunTFScript(
            script("devices.py"), SCHEMA, entry="lists_gpus", num_workers=2 * processes, max_processes=processes,
            accelerators_per_process=share, user_params={"seconds": 2},
        )  # fmt: skip
        rows = in_memory.run(transform, options=THREADS)
        assert {row["devices"] for row in rows} <= set(found.ids)
        assert {(row["task"], row["growth"]) for row in rows} == {("1", "true")}
        assert max(most_at_a_time(rows).values()) <= 1 / share
    (row,) = in_memory.run(
        RunTFScript(script("devices.py"), SCHEMA, entry="lists_gpus", accelerators_per_process=0, user_params={})
    )
    assert (row["task"], row["growth"], row["devices"]) == ("0", "unset", "")

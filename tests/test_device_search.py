"""Search for the accelerators of a machine: variables, the driver's tool, and the driver's files; and their shares."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.worker import accelerators
from beam_tfscript.worker.accelerators import find_accelerators
from beam_tfscript.worker.device_shares import Demand, add_use, no_use, place

GPU_A = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77"
GPU_B = "GPU-b91e30ac-fe77-e236-11ea-078bc2d1f226"
MIG = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"
OLD_MIG = f"MIG-{GPU_B}/1/0"
LISTING = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {GPU_A})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {GPU_B})
  MIG 3g.20gb     Device  0: (UUID: {MIG})
  MIG 3g.20gb     Device  1: (UUID: {OLD_MIG})
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Hide what this machine has: a search sees the files below the test's directory."""
    for variable in ("BEAM_TFSCRIPT_ACCELERATORS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    for folder in ("bin", "tools", "proc", "dev"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setattr(accelerators, "_MOUNTED_TOOLS", str(tmp_path / "tools"))
    monkeypatch.setattr(accelerators, "_PROC", str(tmp_path / "proc"))
    monkeypatch.setattr(accelerators, "_NODES", str(tmp_path / "dev" / "nvidia[0-9]*"))
    accelerators._ask_driver.cache_clear()
    yield tmp_path
    accelerators._ask_driver.cache_clear()


def install(path: pathlib.Path, text: str, status: int = 0) -> None:
    """Make a program that prints a text for the argument -L."""
    (path.parent / "listing").write_text(text)
    path.write_text(f'#!/bin/sh\ntest "$1" = -L && cat {path.parent}/listing\nexit {status}\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("0,1", ("0", "1")),
        (" 2 , 0", ("2", "0")),
        ("0,0,1,", ("0", "1")),
        ("1,-1,0", ("1",)),
        (f"{GPU_A},{MIG}", (GPU_A, MIG)),
    ],
)
def test_variable_of_the_worker_names_them(monkeypatch, value, ids):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert find_accelerators() == (ids, "CUDA_VISIBLE_DEVICES")


def test_own_variable_goes_first(machine, monkeypatch):
    install(machine / "bin" / "nvidia-smi", LISTING)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATORS", "4,5")
    assert find_accelerators() == (("4", "5"), "BEAM_TFSCRIPT_ACCELERATORS")


@pytest.mark.parametrize("value", ["", "-1", " , "])
@pytest.mark.parametrize("variable", ["BEAM_TFSCRIPT_ACCELERATORS", "CUDA_VISIBLE_DEVICES"])
def test_variable_that_names_none_is_told(machine, monkeypatch, variable, value):
    install(machine / "bin" / "nvidia-smi", LISTING)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ScriptEnvironmentError, match=f"no accelerator .* environment has {variable}='{value}', which"):
        find_accelerators()


@pytest.mark.parametrize("folder", ["bin", "tools"])
def test_tool_of_the_driver_lists_gpus_and_the_parts_of_divided_ones(machine, folder):
    install(machine / folder / "nvidia-smi", LISTING)
    assert find_accelerators() == ((GPU_A, MIG, OLD_MIG), "nvidia-smi -L")


def test_tool_of_the_driver_is_asked_once(machine):
    install(machine / "bin" / "nvidia-smi", LISTING)
    assert find_accelerators() == find_accelerators()
    install(machine / "bin" / "nvidia-smi", "")
    assert find_accelerators().ids == (GPU_A, MIG, OLD_MIG)


def test_tool_that_failed_is_asked_again(machine):
    install(machine / "bin" / "nvidia-smi", "Failed to initialize NVML: Driver/library version mismatch", status=18)
    with pytest.raises(ScriptEnvironmentError, match="nvidia-smi -L lists none: .* status 18 and said 'Failed to ini"):
        find_accelerators()
    install(machine / "bin" / "nvidia-smi", LISTING)
    assert len(find_accelerators().ids) == 3


def test_tool_that_hangs_is_given_up(machine, monkeypatch):
    monkeypatch.setattr(accelerators, "_LISTING_TIMEOUT_S", 0.3)
    install(machine / "bin" / "nvidia-smi", LISTING)
    (machine / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(ScriptEnvironmentError, match="nvidia-smi -L fails .*timed out"):
        find_accelerators()


def write_information(machine, number, uuid):
    directory = machine / "proc" / f"0000:0{number}:00.0"
    directory.mkdir()
    (directory / "information").write_text(
        f"Model: \t\t NVIDIA A100\nIRQ:   \t\t 42\nGPU UUID: \t {uuid}\nDevice Minor: \t {number}\n"
    )


def test_files_of_the_driver_tell_uuids(machine):
    write_information(machine, 4, GPU_B)
    write_information(machine, 3, GPU_A)
    found = find_accelerators()
    assert found.ids == (GPU_A, GPU_B) and found.source.endswith("/proc")


def test_unknown_uuids_are_numbers(machine):
    write_information(machine, 3, GPU_A)
    write_information(machine, 4, "GPU-????????-????-????-????-????????????")
    assert find_accelerators().ids == ("0", "1")


def test_device_nodes_are_numbered_as_cuda_does(machine):
    for name in ("nvidia3", "nvidia7", "nvidiactl", "nvidia-uvm"):
        (machine / "dev" / name).write_text("")
    assert find_accelerators().ids == ("0", "1")


def test_error_has_all_places(machine):
    with pytest.raises(ScriptEnvironmentError) as failed:
        find_accelerators()
    text = str(failed.value)
    for place_looked_at in (
        "neither BEAM_TFSCRIPT_ACCELERATORS nor CUDA_VISIBLE_DEVICES is set",
        f"nvidia-smi is neither in PATH nor in {machine}/tools",
        f"{machine}/proc has no GPU",
        f"there is no {machine}/dev/nvidia",
        "set BEAM_TFSCRIPT_ACCELERATORS in",
    ):
        assert place_looked_at in text


SHARES = st.one_of(st.integers(1, 3).map(float), st.sampled_from([0.5, 0.25, 1 / 3, 0.4, 0.01]))


@given(st.lists(st.lists(SHARES, min_size=1, max_size=4), max_size=8), st.integers(1, 4))
def test_no_device_is_given_to_more_than_a_whole_process(runs, count):
    ids = tuple(map(str, range(count)))
    use, owners = no_use(), {name: [] for name in ids}
    for shares in runs:
        before = dict(use)
        placed = place(Demand(tuple(shares), ids), use)
        if placed is None:
            assert {name: use[name] for name in ids} == {name: before.get(name, 0) for name in ids}
            continue
        for share, names in zip(shares, placed):
            assert len(names) == len(set(names)) == max(1, share)
            for name in names:
                owners[name].append(min(share, 1))
    for shares_of_one in owners.values():
        assert sum(shares_of_one) <= 1 + 1e-5


def test_places_are_free_again():
    use = no_use()
    demand = Demand((1 / 3,) * 3, ("0",))
    assert place(demand, use) == [("0",)] * 3 and place(Demand((0.01,), ("0",)), use) is None
    for share in demand.shares:
        add_use(use, ["0"], -share)
    assert place(Demand((1,), ("0",)), use) == [("0",)]

"""Accelerators of this machine: their ids, as `CUDA_VISIBLE_DEVICES` takes them, and the place that told them.

CUDA describes ids in
https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html#cuda-visible-devices.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

from beam_tfscript.errors import ScriptEnvironmentError

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
# A list of ids for a machine on which the search below is wrong; also a list of made-up ids, for a test without any.
LIST_VARIABLE = "BEAM_TFSCRIPT_ACCELERATORS"

# Container platforms mount the driver's programs here, which is not in every image's PATH.
_MOUNTED_TOOLS = "/usr/local/nvidia/bin"
# Without its persistence daemon, the driver first wakes up every GPU, which takes seconds.
_LISTING_TIMEOUT_S = 60.0
_PROC = "/proc/driver/nvidia/gpus"
_NODES = "/dev/nvidia[0-9]*"
# A line of `nvidia-smi -L`: a GPU, or a MIG device of the GPU above it
# (https://docs.nvidia.com/datacenter/tesla/mig-user-guide/mig-device-names.html).
_LISTED = re.compile(r"\s*(GPU|MIG) .*\(UUID: ([^)\s]+)\)")
_UUID = re.compile(r"^GPU UUID:\s*(GPU-[0-9a-f-]{36})\s*$", re.MULTILINE)


class Accelerators(NamedTuple):
    """Accelerators that a process on this machine may be given.

    Attributes:
      ids: the id of each.
      source: the place that told them, in words.
    """

    ids: tuple[str, ...]
    source: str


class _NotThere(Exception):
    """A place tells of no accelerator; the message says why."""


def find_accelerators() -> Accelerators:
    """Return the accelerators of this machine that this process may use.

    Raises:
      ScriptEnvironmentError: there is none; the message has all places that were looked at.
    """
    for variable in (LIST_VARIABLE, VISIBLE_VARIABLE):
        if (value := os.environ.get(variable)) is not None:
            ids = _split(value)
            if not ids:
                raise _none_found([f"the worker's environment has {variable}={value!r}, which names none"])
            return Accelerators(ids, variable)
    reasons = [f"neither {LIST_VARIABLE} nor {VISIBLE_VARIABLE} is set"]
    places: list[tuple[str, Callable[[], Sequence[str]]]] = [
        ("nvidia-smi -L", _ask_driver), (_PROC, _read_proc), (_NODES, _count_nodes),
    ]  # fmt: skip
    for source, look in places:
        try:
            return Accelerators(tuple(look()), source)
        except _NotThere as reason:
            reasons.append(str(reason))
    raise _none_found(reasons)


def _none_found(reasons: Sequence[str]) -> ScriptEnvironmentError:
    return ScriptEnvironmentError(
        f"accelerators_per_process is given, and no accelerator is found on this worker: {'; '.join(reasons)}. Run the "
        f"step on workers with GPUs. Where this search is wrong, set {LIST_VARIABLE} in the worker's environment to "
        "their ids, such as 0,1."
    )


def _split(value: str) -> tuple[str, ...]:
    """Return the ids in a variable, each once; as in CUDA, those behind a negative number do not count."""
    ids: dict[str, None] = {}
    for name in value.split(","):
        if name.strip().startswith("-"):
            break
        if name.strip():
            ids[name.strip()] = None
    return tuple(ids)


@functools.cache
def _ask_driver() -> tuple[str, ...]:
    """Return the ids that the driver's own tool lists; asked once per process, as the tool may take seconds."""
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=_MOUNTED_TOOLS)
    if program is None:
        raise _NotThere(f"nvidia-smi is neither in PATH nor in {_MOUNTED_TOOLS}")
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_LISTING_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotThere(f"{program} -L fails ({error})") from error
    ids = _listed_ids(done.stdout)
    if done.returncode or not ids:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise _NotThere(f"{program} -L lists none: it ended with exit status {done.returncode} and said {said!r}")
    return ids


def _listed_ids(listing: str) -> tuple[str, ...]:
    """Return the ids in the output of `nvidia-smi -L`; a GPU that is divided is its MIG devices."""
    groups: list[tuple[str, list[str]]] = []
    for line in listing.splitlines():
        if (found := _LISTED.match(line)) is None:
            continue
        if found.group(1) == "GPU":
            groups.append((found.group(2), []))
        elif groups:
            groups[-1][1].append(found.group(2))
    return tuple(name for gpu, parts in groups for name in (parts or [gpu]))


def _read_proc() -> list[str]:
    """Return the ids in the driver's directory in /proc: UUIDs, else numbers."""
    files = sorted(glob.glob(f"{_PROC}/*/information"))
    if not files:
        raise _NotThere(f"{_PROC} has no GPU")
    found = []
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="replace") as information:
                found += _UUID.findall(information.read())
        except OSError:
            pass  # its number stands for it
    return found if len(found) == len(files) else _numbers(len(files))


def _count_nodes() -> list[str]:
    # CUDA numbers the devices that it may open, from 0; a container may have /dev/nvidia3 alone.
    count = len(glob.glob(_NODES))
    if not count:
        raise _NotThere(f"there is no {_NODES}")
    return _numbers(count)


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]

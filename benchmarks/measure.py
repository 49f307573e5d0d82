"""Measurements of a command in a fresh process: command in, wall time and peak memory of its processes out.

Memory is the kernel's high-water mark (VmHWM), read several times per second. So a peak between two readings counts;
only growth in a process's last fraction of a second is missed.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import psutil

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SAMPLE_S = 0.2  # a shorter one misses less of a process's last growth, but takes CPU time from the measured command
_STDERR_TAIL_CHARS = 3000


class CommandFailed(Exception):
    """A measured command ended with an error; the message holds the end of its stderr."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Time and memory of one run of a command.

    Attributes:
      whole_s: seconds from the start of the process to its end, with the interpreter's start.
      cpu_s: CPU seconds of the process and of its child processes, on all cores.
      other_cpu_share: share of the machine's CPU time that other work took meanwhile, 0 to 1.
      peak_rss_mib: peak resident memory of the process itself, in MiB.
      child_peaks_mib: peak resident memory of each child process, in MiB, largest first.
    """

    whole_s: float
    cpu_s: float
    other_cpu_share: float
    peak_rss_mib: float
    child_peaks_mib: tuple[float, ...]


def run_measured(command: Sequence[str], *, log_path: str, timeout_s: float = 1800) -> Measurement:
    """Run a command to its end, and measure it.

    Args:
      command: program and arguments.
      log_path: path of the file that gets stdout and stderr.
      timeout_s: timeout in seconds, after which the command is killed.

    Raises:
      CommandFailed: the exit status is not 0, or the timeout is over.
    """
    with open(log_path, "wb") as log:
        start_s, start_cpu_s, start_busy_s = time.perf_counter(), _own_cpu_s(), _busy_cpu_s()
        process = subprocess.Popen(list(command), stdout=log, stderr=subprocess.STDOUT, env=_environment())
        peaks = _PeakSampler(process.pid)
        try:
            returncode = process.wait(timeout_s)
            whole_s = time.perf_counter() - start_s
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"{' '.join(command)} took longer than {timeout_s:g} s: ended.") from error
        finally:
            peaks.stop()
            if process.poll() is None:
                process.kill()
                process.wait()
    if returncode != 0:
        raise CommandFailed(f"{' '.join(command)} ended with status {returncode}:\n{_tail(log_path)}")
    cpu_s = _own_cpu_s() - start_cpu_s
    other_s = max(0.0, _busy_cpu_s() - start_busy_s - cpu_s)
    own, children = peaks.result()
    return Measurement(whole_s, cpu_s, other_s / (whole_s * (os.cpu_count() or 1)), own, children)


def read_rss_mib(pid: int | str = "self", field: str = "VmHWM") -> float | None:
    """Read a process's memory from the kernel.

    Args:
      pid: id of the process.
      field: `VmHWM` for the peak, `VmRSS` for the present.

    Returns:
      MiB, or None if the process has ended.
    """
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith(field):
                    return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


class _PeakSampler:
    """Thread that samples the peak memory of a process and its descendants."""

    def __init__(self, pid: int):
        self._pid = pid
        self._peaks: dict[int, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def result(self) -> tuple[float, tuple[float, ...]]:
        children = sorted((peak for pid, peak in self._peaks.items() if pid != self._pid), reverse=True)
        return self._peaks.get(self._pid, 0.0), tuple(children)

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE_S):
            for pid in self._family():
                peak = read_rss_mib(pid)
                # The last reading and not the largest: between fork and exec a child shows its parent's peak.
                if peak is not None:
                    self._peaks[pid] = peak

    def _family(self) -> list[int]:
        try:
            children = psutil.Process(self._pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [self._pid, *(child.pid for child in children)]


def _own_cpu_s() -> float:
    """Return the CPU time of the child processes that have ended, and of this process."""
    usages = (resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _busy_cpu_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    # Without bytecode caches, the import of TensorFlow takes three times as long in each process.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["TF_CPP_MIN_LOG_LEVEL"] = "2"
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, environment.get("PYTHONPATH")]))
    return environment


def _tail(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()[-_STDERR_TAIL_CHARS:]

"""What the system says of processes: what one is doing that does not answer, and how many the kernel has killed."""

from __future__ import annotations

import os

# The letter that /proc shows for a process's state -> what that means for one that does not answer.
_STATES = {
    "R": "it computes, inside one call that holds Python's interpreter lock",
    "S": "it waits, inside one call that holds Python's interpreter lock",
    "D": "it waits for the kernel, for a device or a file server",
    "T": "it is stopped, as by SIGSTOP",
    "t": "a debugger has stopped it",
}


def describe_activity(pid: int) -> str:
    """Return what a process is doing, in words.

    Args:
      pid: of a process of this machine.
    """
    state = _read_stat(pid)[:1]
    return _STATES.get(state[0], "its state is not known") if state else "its state is not known"


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that a process has used, in seconds; None where the system does not say."""
    fields = _read_stat(pid)
    # The fields behind the name, from the state on: utime and stime are the 12th and 13th.
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else None


def _read_stat(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            # The name may hold spaces and parentheses.
            return stat.read().rpartition(")")[2].split()
    except OSError:
        return []


def count_oom_kills() -> int:
    """How many processes this machine's kernel killed for want of memory; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as counters:
            for line in counters:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0

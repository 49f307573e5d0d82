"""The system's view of processes: their activity and their memory, and the kernel's out-of-memory kills."""

from __future__ import annotations

import contextlib
import os

# A process's state in /proc, a letter -> its meaning for a process that does not answer.
_STATES = {
    "R": "it computes, inside one call that holds Python's interpreter lock",
    "S": "it waits, inside one call that holds Python's interpreter lock",
    "D": "it waits for the kernel, for a device or a file server",
    "T": "it is stopped, as by SIGSTOP",
    "t": "a debugger has stopped it",
}


def describe_activity(pid: int) -> str:
    """Return the activity of a process, in words.

    Args:
      pid: of a process on this machine.
    """
    state = _read_stat(pid)[:1]
    return _STATES.get(state[0], "its state is not known") if state else "its state is not known"


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that a process has used, in seconds; None if the system does not tell."""
    fields = _read_stat(pid)
    # utime and stime are the 12th and 13th field after the name (https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html).
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else None


def resident_bytes(session: int) -> int:
    """Return the resident memory of all processes of a session, in bytes; 0 if the system does not tell.

    Memory that a forked child shares with its parent counts twice.

    Args:
      session: id of the process that leads the session. Its children are in the session, unless they have left it.
    """
    pages = 0
    with contextlib.suppress(OSError), os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                fields = _read_stat(int(entry.name))
                # Session and rss are the 4th and the 22nd field after the name.
                if len(fields) > 21 and fields[3] == str(session):
                    pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _read_stat(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            # The name may hold spaces and parentheses.
            return stat.read().rpartition(")")[2].split()
    except OSError:
        return []


def count_oom_kills() -> int:
    """Return how many processes this machine's kernel has killed to free memory; 0 if it does not tell."""
    try:
        with open("/proc/vmstat", encoding="ascii") as counters:
            for line in counters:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0

"""Progress line of `run` on a terminal, and the totals at the end: rows, rate, processes, memory.

In come the job's metrics. Many runners give them only at the end, so DoFns of this process count rows as well: on local
engines these are all rows. /proc tells the script processes and their memory. Out goes a line that is redrawn every
second, and nothing if stdout is not a terminal.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.metrics import MetricsFilter

from beam_tfscript.cli import show
from beam_tfscript.data.encoding import BATCHES
from beam_tfscript.metrics import NAMESPACE

_REDRAW_S = 1.0
# A counting DoFn adds its rows to the shared total after so many rows, or after so long: a lock per row would cost
# more than the row.
_FLUSH_ROWS = 1024
_FLUSH_S = 0.2
# Part of a script process's command line, by which /proc shows it.
_COMMAND_MARK = b"beam_tfscript.runtime"
_ERASE_LINE = "\r\x1b[2K"

# Rows that this process has counted: `read` from the input, `written` to the output.
_local_counts = {"read": 0, "written": 0}
_local_counts_lock = threading.Lock()

# Counters that the summary names if they are not 0, each with its words there.
_NAMED_COUNTERS = {
    "rows_bad": "bad rows", "rows_unread": "unread rows", "rows_lost": "lost rows", "runs_failed": "runs failed",
    "process_deaths": "processes died", "doubles_rounded": "doubles rounded to 32 bits",
    "doubles_infinite": "doubles made infinite",
}  # fmt: skip


class CountRows(beam.DoFn):
    """Passes rows on, and counts them for this process's progress line.

    Args:
      name: `read` or `written`.
    """

    def __init__(self, name: str):
        self._name = name
        self._count = 0
        self._flushed_at = 0.0

    def process(self, element: Any) -> Iterator[Any]:
        """Count one row, or the rows of a batch."""
        self._count += element.num_rows if isinstance(element, BATCHES) else 1
        if self._count >= _FLUSH_ROWS or time.monotonic() - self._flushed_at > _FLUSH_S:
            self._flush()
        yield element

    def finish_bundle(self) -> None:
        """Add the rest to the total."""
        self._flush()

    def _flush(self) -> None:
        count, self._count = self._count, 0
        self._flushed_at = time.monotonic()
        with _local_counts_lock:
            _local_counts[self._name] += count


class Progress:
    """Draws the progress line from `begin()` to the end of the `with` block.

    Args:
      has_output: True if the script writes rows.

    Attributes:
      is_shown: True if stdout is a terminal.
      seconds: run time of the job so far, or in all.
    """

    def __init__(self, *, has_output: bool) -> None:
        self._rate_counter = rate_counter(has_output)
        self.is_shown = sys.stdout.isatty()
        self._result: Any = None
        self._begin: float | None = None
        self._end: float | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def seconds(self) -> float:
        return 0.0 if self._begin is None else (self._end or time.monotonic()) - self._begin

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._end = time.monotonic()
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def begin(self) -> None:
        """Start the clock and, on a terminal, the thread that draws the line."""
        self._begin = time.monotonic()
        if self.is_shown:
            _local_counts.update(read=0, written=0)
            self._thread = threading.Thread(target=self._draw, name="beam_tfscript-progress", daemon=True)
            self._thread.start()

    def watch(self, result: Any) -> None:
        """Read the metrics of a running job from now on, if its runner gives them.

        Args:
          result: the `PipelineResult`.
        """
        self._result = result

    def _draw(self) -> None:
        last_rows, last_s, is_running = 0, 0.0, True
        while is_running:
            is_running = not self._over.wait(_REDRAW_S)
            counters = self._counters()
            rows, now_s = counters[self._rate_counter], self.seconds
            # The last line has the rate of the whole job.
            rate = (rows - last_rows) / max(now_s - last_s, 1e-3) if is_running else rows / max(now_s, 1e-3)
            last_rows, last_s = rows, now_s
            # Erased first: log lines in between must not stay visible after a shorter line.
            text = line(counters, rate, now_s, *script_processes())
            sys.stdout.write(_ERASE_LINE + text + ("" if is_running else "\n"))
            sys.stdout.flush()

    def _counters(self) -> dict[str, int]:
        counters: dict[str, int] = {}
        if self._result is not None:
            try:
                counters = counters_of(self._result)
            except (RuntimeError, ValueError, NotImplementedError, grpc.RpcError):
                pass  # a runner that gives no metrics while the job runs
        return {"rows_in": max(_local_counts["read"], counters.get("rows_in", 0)),
                "rows_out": max(_local_counts["written"], counters.get("rows_out", 0))}  # fmt: skip


def log_prefix(*, is_progress_shown: bool) -> str:
    """Return the text to begin each log line on stderr with, so that it does not mix with a progress line.

    Args:
      is_progress_shown: True if stdout shows a progress line.
    """
    return _ERASE_LINE if is_progress_shown and sys.stderr.isatty() else ""


def line(counters: dict[str, int], rate: float, seconds: float, processes: int, rss_bytes: int) -> str:
    """Return the progress line: up to 80 characters, save for very large numbers."""
    return (
        f"{counters['rows_in']:,} rows read, {counters['rows_out']:,} written, {rate:,.0f}/s, {seconds:.0f} s, "
        f"{processes} process{'es' * (processes != 1)}, {show.size(rss_bytes)}"
    )


def rate_counter(has_output: bool) -> str:
    """Return the counter whose rate is shown: most runners read all rows before the script gets the first one."""
    return "rows_out" if has_output else "rows_in"


def summary(counters: dict[str, int], seconds: float, *, has_output: bool) -> str:
    """Return the totals of a job in one line.

    Args:
      counters: counters of the package, by name.
      seconds: run time of the job.
      has_output: True if the script writes rows.
    """
    named = "".join(f", {counters[name]:,} {words}" for name, words in _NAMED_COUNTERS.items() if counters.get(name))
    rate = counters.get(rate_counter(has_output), 0) / max(seconds, 1e-3)
    return (
        f"{counters.get('rows_in', 0):,} rows read, {counters.get('rows_out', 0):,} written in {seconds:.1f} s "
        f"({rate:,.0f}/s){named}"
    )


def counters_of(result: Any) -> dict[str, int]:
    """Return the package's counters of a job, each summed over all steps.

    Args:
      result: the `PipelineResult`.
    """
    totals: dict[str, int] = {}
    for counter in result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
        name = counter.key.metric.name
        totals[name] = totals.get(name, 0) + int(counter.result or 0)
    return totals


def script_processes() -> tuple[int, int]:
    """Return the number of script processes below this process, and the memory of this whole process tree in bytes.

    Both are 0 on a system without /proc.
    """
    count = total = 0
    for pid in _process_tree(os.getpid()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as command:
                is_script = _COMMAND_MARK in command.read()
            with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
                pages = int(statm.read().split()[1])
        except (OSError, IndexError, ValueError):
            continue  # the process has just ended, or there is no /proc
        count += is_script
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return count, total


def _process_tree(root: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # the process has just ended
            children.setdefault(parent, []).append(int(name))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree

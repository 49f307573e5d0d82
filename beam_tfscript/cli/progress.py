"""The line on a terminal that says how a job goes: rows, rate, processes, memory.

In come a job's metrics, where its runner gives them while it runs; else what DoFns of this process have counted, as the
local engines' are; and what /proc says of the script processes. Out goes a line that is drawn again each second, and
nothing where stdout is no terminal.
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
import pyarrow as pa
from apache_beam.metrics import MetricsFilter

from beam_tfscript.cli import show
from beam_tfscript.metrics import NAMESPACE

_EVERY_S = 1.0
# A tap keeps rows to itself until it has so many, or for so long: a lock for each row would cost more than the row.
_TAP_ROWS = 1024
_TAP_S = 0.2
# How the command line of a script process is known.
_MARK = b"beam_tfscript.runtime"

_seen = {"read": 0, "written": 0}
_seen_lock = threading.Lock()


class Tap(beam.DoFn):
    """Passes rows on and counts them for this process' progress line.

    Args:
      name: `read` or `written`.
    """

    def __init__(self, name: str):
        self._name = name
        self._count = 0
        self._told_at = 0.0

    def process(self, element: Any) -> Iterator[Any]:
        """Counts one row, or those of an Arrow batch."""
        self._count += element.num_rows if isinstance(element, (pa.RecordBatch, pa.Table)) else 1
        if self._count >= _TAP_ROWS or time.monotonic() - self._told_at > _TAP_S:
            self._tell()
        yield element

    def finish_bundle(self) -> None:
        """Says what is left."""
        self._tell()

    def _tell(self) -> None:
        count, self._count = self._count, 0
        self._told_at = time.monotonic()
        with _seen_lock:
            _seen[self._name] += count


class Progress:
    """Draws the line while its block runs.

    Args:
      has_output: whether the script writes rows.

    Attributes:
      is_shown: whether stdout is a terminal.
      seconds: how long the job has run, or ran.
    """

    def __init__(self, *, has_output: bool) -> None:
        self._counted = counted_by(has_output)
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
        """Begins to draw."""
        self._begin = time.monotonic()
        if self.is_shown:
            _seen.update(read=0, written=0)
            self._thread = threading.Thread(target=self._draw, name="beam_tfscript-progress", daemon=True)
            self._thread.start()

    def watch(self, result: Any) -> None:
        """Takes the figures from a running job from now on, as far as its runner gives them."""
        self._result = result

    def _draw(self) -> None:
        before, before_s, has_next = 0, 0.0, True
        while has_next:
            has_next = not self._over.wait(_EVERY_S)
            counters = self._counters()
            now_s, done = self.seconds, counters[self._counted]
            rate = (done - before) / max(now_s - before_s, 1e-3) if has_next else done / max(now_s, 1e-3)
            before, before_s = done, now_s
            # Erased first: what others print in between must not stay behind a shorter line.
            sys.stdout.write(
                "\r\x1b[2K" + line(counters, rate, now_s, *script_processes()) + ("" if has_next else "\n")
            )
            sys.stdout.flush()

    def _counters(self) -> dict[str, int]:
        counters: dict[str, int] = {}
        if self._result is not None:
            try:
                counters = counters_of(self._result)
            except (RuntimeError, ValueError, NotImplementedError, grpc.RpcError):
                pass  # a runner that gives none while the job runs
        return {"rows_in": max(_seen["read"], counters.get("rows_in", 0)),
                "rows_out": max(_seen["written"], counters.get("rows_out", 0))}  # fmt: skip


def line(counters: dict[str, int], rate: float, seconds: float, processes: int, rss_bytes: int) -> str:
    """The line of progress, for a terminal of 80 columns."""
    return (
        f"{counters['rows_in']:,} rows read, {counters['rows_out']:,} written, {rate:,.0f}/s, {seconds:.0f} s, "
        f"{processes} process{'es' * (processes != 1)}, {show.size(rss_bytes)}"
    )


def counted_by(has_output: bool) -> str:
    """The counter that tells how far a job is: most runners read all rows before the script sees the first."""
    return "rows_out" if has_output else "rows_in"


def summary(counters: dict[str, int], seconds: float, *, has_output: bool) -> str:
    """What a job has done."""
    more = "".join(f", {what} {counters[name]:,}" for name, what in _MORE.items() if counters.get(name))
    rate = counters.get(counted_by(has_output), 0) / max(seconds, 1e-3)
    return (
        f"{counters.get('rows_in', 0):,} rows read, {counters.get('rows_out', 0):,} written in {seconds:.1f} s "
        f"({rate:,.0f}/s){more}"
    )


_MORE = {
    "rows_bad": "bad", "rows_unread": "unread", "rows_lost": "lost", "runs_failed": "runs failed",
    "process_deaths": "processes died", "doubles_rounded": "doubles rounded to 32 bits",
    "doubles_infinite": "doubles made infinite",
}  # fmt: skip


def counters_of(result: Any) -> dict[str, int]:
    """What the package has counted in a job, of all steps together."""
    totals: dict[str, int] = {}
    for counter in result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
        name = counter.key.metric.name
        totals[name] = totals.get(name, 0) + int(counter.result or 0)
    return totals


def script_processes() -> tuple[int, int]:
    """How many script processes this machine's /proc shows under this process, and the memory of all (bytes)."""
    count = total = 0
    for pid in _descendants(os.getpid()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as command:
                is_script = _MARK in command.read()
            with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
                pages = int(statm.read().split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it has just ended, or there is no /proc
        count += is_script
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return count, total


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # it has just ended
            children.setdefault(parent, []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found

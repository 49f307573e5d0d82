"""One bundle of the `bundles` feed: its rows go to a process, its outputs come back as their rows are done.

The bundle's rows are counted from 0, and the script's process acknowledges positions. Rows before such a position are
forgotten here, and their outputs emitted. The other rows are sent again, to another process, when the process dies.
"""

from __future__ import annotations

import array
import dataclasses
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.data.example_chunk import ExampleChunk
from beam_tfscript.errors import FeedError, ScriptError
from beam_tfscript.feeds.demultiplexer import Demultiplexer
from beam_tfscript.feeds.fed_run import IN_FLIGHT_BYTES, FedRun
from beam_tfscript.feeds.held_outputs import HeldOutputs
from beam_tfscript.feeds.retries import RETRYABLE, Retries
from beam_tfscript.feeds.run_logs import RunLogs
from beam_tfscript.feeds.run_requests import count_lease, count_recycled, make_request, process_limit
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.feeds.unacked_rows import UnackedRows
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.process import ScriptProcess

# Rows that are read and encoded while the interpreter comes up. So the seconds that importing TensorFlow takes are not
# lost; the memory is free again as soon as the script begins to read.
STARTING_BYTES = 96 << 20
# Longest wait for a script that may not be sent more; a bundle waits as often as it takes.
_WAIT_S = 5.0
# The window of a process that was not sent one in this bundle; None is the global window.
_UNKNOWN = object()


@dataclasses.dataclass
class Done:
    """Outputs of rows of the bundle that are done.

    Attributes:
      window: the window of the rows.
      timestamp_micros: the earliest timestamp of the rows.
      records: Examples that the script wrote for the rows.
      killed: the serialized rows themselves, if each attempt at them failed; then `error` is the last one's.
    """

    window: Any
    timestamp_micros: int
    records: list[bytes]
    killed: list[bytes] = dataclasses.field(default_factory=list)
    error: ScriptError | None = None


class BundleFeed:
    """Feeds one bundle.

    Args:
      staged: the script.
      user: the DoFn instance that the lease is counted to.
      bounds: returns the (start, end) of a window in seconds, None for the global one.
      keep_going: True if a batch that kills its processes is given out as killed, and the rest goes on.
    """

    def __init__(self, staged: StagedScript, *, user: object, bounds: Any, keep_going: bool):
        self._staged = staged
        self._options = staged.options
        self._pool = staged.pool
        self._user = user
        self._bounds = bounds
        self._keep_going = keep_going
        self._rows = UnackedRows(staged.pool.scratch)
        self._held = HeldOutputs(staged.pool.scratch)
        self._retries = Retries(staged.options.max_attempts)
        self._demultiplexer = Demultiplexer()
        self._run: FedRun | None = None
        self._base = 0  # the bundle's position of the run's row 0
        self._is_whole = False  # True once the bundle's last row has been added
        self._has_sent_end = False
        self._sent_bounds: Any = _UNKNOWN
        self._last_done: tuple[Any, int] | None = None  # window and timestamp of the batch that was done last
        self._may_be_stale = False  # True if the process may have died before this bundle

    def add(
        self, examples: Sequence[bytes] | ExampleChunk, window: Any, timestamps: array.array[int]
    ) -> Iterator[Done]:
        """Take rows of one window, and yield outputs of rows that are done by now.

        Args:
          examples: serialized Examples, as a list or as a chunk.
          window: their window.
          timestamps: of each, in microseconds.

        Raises:
          ScriptError: the script failed as often as it may.
        """
        if self._pool.is_stopped(self._options.key):
            metrics.add("rows_unread", len(examples))
            return
        self._rows.add(examples, window, timestamps)
        yield from self._step(0.0)
        while self._is_full():
            yield from self._step(_WAIT_S)

    def finish(self) -> Iterator[Done]:
        """Yield the other outputs; the bundle is complete with its last acknowledgement.

        Raises:
          ScriptError: the script failed as often as it may.
        """
        self._is_whole = True
        while self._rows.count:
            yield from self._step(None)
        self._give_back(keep=True)
        self._rows.close()

    def abandon(self) -> None:
        """End the process of a bundle that has failed."""
        self._give_back(keep=False)
        self._held.drop()
        self._rows.close()

    def _is_full(self) -> bool:
        """Return True if no more rows may be in memory, and the script does not wait for more of them."""
        wanted = None if self._run is None else self._run.wanted
        if wanted is None:
            return self._rows.memory_bytes >= STARTING_BYTES
        return self._rows.memory_bytes >= IN_FLIGHT_BYTES and self._rows.count >= wanted

    def _step(self, timeout_s: float | None) -> Iterator[Done]:
        """Send rows that there is room for, and take one frame or more; start anew where the process has died."""
        try:
            run = self._lease()
            self._send(run)
            frame = run.receive(timeout_s)
            while frame is not None:
                self._may_be_stale = False
                yield from self._take(run, frame)
                self._send(run)
                frame = run.receive(0.0)
            if run.is_over:
                yield from self._stop(run)
        except RETRYABLE as error:
            yield from self._fail(error)

    def _lease(self) -> FedRun:
        """Return the run of this bundle: one that goes on from an earlier bundle, or a new one."""
        if self._run is None:
            begin = time.monotonic()
            limit = process_limit(self._options)
            process = self._pool.acquire(self._staged.spec, max_processes=limit, owner=self._user)
            try:
                count_lease(process, time.monotonic() - begin)
                kept = process.kept_run
                assert kept is None or isinstance(kept, FedRun)
                self._may_be_stale = kept is not None
                self._run = kept or self._start(process)
            except BaseException:
                self._pool.release(process, keep=False)
                raise
            self._base = self._rows.start - self._run.sent
            self._rows.send_again()
            self._has_sent_end = False
            self._sent_bounds = _UNKNOWN
        return self._run

    def _start(self, process: ScriptProcess) -> FedRun:
        attempt = self._retries.attempt
        directory = tempfile.mkdtemp(prefix="run-", dir=process.directory)
        logs = RunLogs(self._options.log_dir, directory, attempt=attempt)
        request = make_request(self._staged, directory, feed="bundles", attempt=attempt, log_dir=logs.path)
        self._retries.begin_run()
        run = FedRun(process, request)
        # The process may end between two bundles, while nothing here knows of it.
        process.keep_run(run, on_end=lambda: logs.finish(request.label))
        run.start()
        return run

    def _send(self, run: FedRun) -> None:
        """Send rows while there is room; the script's first ACK says in which form."""
        if run.wanted is None:
            run.waiting = self._rows.count
            return
        if run.wanted == wire.WANT_DATASET:
            self._send_dataset(run)
            return
        if self._rows.is_spooled:
            raise FeedError(
                f"{run.label}: the script reads by config.batches() a bundle that the previous attempt read by "
                "config.datasets(): use the same one of the two in all attempts."
            )
        while run.has_room and (part := self._rows.next_unsent()) is not None:
            bounds = self._bounds(part.window)
            if bounds != self._sent_bounds:
                run.send_window(bounds)
                self._sent_bounds = bounds
            run.send_rows(part.count, part.payload)
        if self._is_whole and not self._has_sent_end and self._rows.is_all_sent:
            self._has_sent_end = True
            run.end_bundle()

    def _send_dataset(self, run: FedRun) -> None:
        """Spool rows to files, one per window, and send each when the bundle is whole."""
        self._rows.spool()
        if self._is_whole and self._rows.count and run.acked == run.sent:
            file = self._rows.next_file()
            run.send_dataset(file.path, file.count, self._bounds(file.window))

    def _take(self, run: FedRun, frame: wire.Frame) -> Iterator[Done]:
        if frame.kind == wire.ACK:
            yield from self._acknowledge(run)
        else:
            # Of a batch that fails and is repeated, nothing is given out and nothing counted.
            self._held.add(frame)

    def _acknowledge(self, run: FedRun) -> Iterator[Done]:
        position = run.acked + self._base
        if position > self._rows.start:
            self._retries.note_progress()
            self._last_done = self._rows.acknowledge(position)
            yield from self._take_held(*self._last_done)

    def _take_held(self, window: Any, timestamp_micros: int) -> Iterator[Done]:
        for records in self._demultiplexer.rows(self._held.take()):
            yield Done(window, timestamp_micros, records)

    def _fail(self, error: ScriptError) -> Iterator[Done]:
        """Start anew from the first row that is not done, as often as may be."""
        run = self._run
        assert run is not None
        wanted = run.wanted
        self._give_back(keep=False)
        self._held.drop()
        if self._rows.count:
            next_step = f"The bundle's rows from number {self._rows.start + 1} on are sent again."
        else:
            next_step = "All rows of the bundle were done by then."
        may_leave_out = self._keep_going and wanted is not None
        has_next = self._retries.fail(
            error, next_step,
            # A process that ended between two bundles, while it was sent nothing, has not failed at these rows.
            is_free=self._may_be_stale or not self._rows.count,
            last_step=f"The batch has failed {self._options.max_attempts} times and is left out."
            if may_leave_out
            else None,
        )  # fmt: skip
        if not has_next:
            assert wanted is not None
            window, timestamp, records = self._rows.take_batch(wanted)
            yield Done(window, timestamp, [], killed=records, error=error)

    def _stop(self, run: FedRun) -> Iterator[Done]:
        """Count and forget all rows that a script which asked for the end has not read."""
        yield from self._acknowledge(run)
        # Outputs for no row of this bundle, such as those of a script that asked for the end between two bundles.
        yield from self._take_held(*(self._last_done or self._rows.first_row()))
        self._pool.stop(self._options.key)
        metrics.add("rows_unread", self._rows.count)
        self._rows.clear()
        self._give_back(keep=False)

    def _give_back(self, *, keep: bool) -> None:
        if self._run is not None:
            process, self._run = self._run.process, None
            count_recycled(self._pool.release(process, keep=keep))


def merge(parts: Iterable[Done]) -> Iterator[Done]:
    """Join outputs of one window and timestamp that follow one another: each decoding has a fixed cost."""
    merged: Done | None = None
    size = 0
    for done in parts:
        more = sum(map(len, done.records))
        if merged is None:
            merged, size = done, more
        elif _may_join(merged, done) and size + more <= wire.FRAME_TARGET_BYTES:
            merged.records += done.records
            size += more
        else:
            yield merged
            merged, size = done, more
    if merged is not None:
        yield merged


def _may_join(first: Done, second: Done) -> bool:
    is_alike = (first.window, first.timestamp_micros) == (second.window, second.timestamp_micros)
    return is_alike and first.error is second.error is None and len(first.records) < wire.FRAME_TARGET_RECORDS

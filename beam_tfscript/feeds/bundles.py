"""One bundle of the `bundles` feed: its rows out to a process, its outputs back as the script is done with them.

All that is known of rows is in positions: the bundle's rows are counted from 0, the script's process acknowledges
positions, what is behind them is forgotten here and emitted, and what is not is sent again to another process
when the process dies.
"""

from __future__ import annotations

import array
import dataclasses
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.errors import FeedError, ScriptDied, ScriptError, ScriptRaised
from beam_tfscript.feeds.feed_session import IN_FLIGHT_BYTES, FeedSession
from beam_tfscript.feeds.held_outputs import HeldOutputs
from beam_tfscript.feeds.run_logs import RunLogs
from beam_tfscript.feeds.run_requests import count_lease, make_request, process_limit
from beam_tfscript.feeds.session import NeverStarted
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.feeds.unacked_rows import UnackedRows
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.process import ScriptProcess

_LOGGER = logging.getLogger(__name__)

# What is read and encoded while the interpreter comes up: the seconds that importing TensorFlow takes are
# not lost, and the memory is given back at once when the script begins to read.
STARTING_BYTES = 96 << 20
# How long to wait at a time for a script that has as much on its way to it as may be.
_WAIT_S = 5.0
# Stands for the window of a process that has not been told one here; None is the global window.
_UNKNOWN = object()


@dataclasses.dataclass
class Done:
    """What a part of the bundle has given.

    Attributes:
      window: the window of its rows.
      timestamp_micros: the earliest timestamp of its rows.
      records: Examples that the script wrote.
      killed: serialized rows that no process has survived, with `error`.
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
      bounds: gives the (start, end) of a window in seconds, None for the global one.
      keep_going: whether a batch that kills its processes is given out as killed, and the rest goes on.
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
        self._session: FeedSession | None = None
        self._base = 0  # the bundle's position of the session's row 0
        self._attempt = 1
        self._is_whole = False  # whether the bundle's last row has been added
        self._has_said_end = False
        self._sent_bounds: Any = _UNKNOWN
        self._last_done: tuple[Any, int] | None = None  # window and timestamp of the batch that was done last
        self._may_be_stale = False  # whether the process may have died before this bundle

    def add(self, examples: Sequence[bytes], window: Any, timestamps: array.array[int]) -> Iterator[Done]:
        """Takes rows of one window, and yields what is done by now.

        Args:
          examples: serialized Examples.
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
        """Yields the rest; the bundle is complete with its last acknowledgement.

        Raises:
          ScriptError: the script failed as often as it may.
        """
        self._is_whole = True
        while self._rows.count:
            yield from self._step(None)
        self._give_back(keep=True)
        self._rows.close()

    def abandon(self) -> None:
        """Ends the process of a bundle that has failed."""
        self._give_back(keep=False)
        self._held.drop()
        self._rows.close()

    def _is_full(self) -> bool:
        """Whether there is as much in memory as may be, and the script does not wait for more of it."""
        wanted = None if self._session is None else self._session.wanted
        if wanted is None:
            return self._rows.memory_bytes >= STARTING_BYTES
        return self._rows.memory_bytes >= IN_FLIGHT_BYTES and self._rows.count >= wanted

    def _step(self, timeout_s: float | None) -> Iterator[Done]:
        """Sends what may be sent and deals with one report; starts anew where the process has died."""
        try:
            session = self._lease()
            self._send(session)
            frame = session.receive(timeout_s)
            while frame is not None:
                self._may_be_stale = False
                yield from self._take(session, frame)
                self._send(session)
                frame = session.receive(0.0)
            if session.summary is not None:
                yield from self._stop(session)
        except (ScriptDied, ScriptRaised, NeverStarted) as error:
            yield from self._fail(error)

    def _lease(self) -> FeedSession:
        """The session of this bundle, on a process whose run goes on, or on a new one."""
        if self._session is None:
            begin = time.monotonic()
            limit = process_limit(self._options)
            process = self._pool.acquire(self._staged.spec, max_processes=limit, owner=self._user)
            try:
                count_lease(process, time.monotonic() - begin)
                live = process.live
                assert live is None or isinstance(live, FeedSession)
                self._may_be_stale = live is not None
                self._session = live or self._start(process)
            except BaseException:
                self._pool.release(process, keep=False)
                raise
            self._base = self._rows.start - self._session.sent
            self._rows.send_again()
            self._has_said_end = False
            self._sent_bounds = _UNKNOWN
        return self._session

    def _start(self, process: ScriptProcess) -> FeedSession:
        directory = tempfile.mkdtemp(prefix="run-", dir=process.directory)
        logs = RunLogs(self._options.log_dir, directory, attempt=self._attempt)
        request = make_request(self._staged, directory, feed="bundles", attempt=self._attempt, log_dir=logs.path)
        metrics.add("runs")
        process.live = session = FeedSession(process, request)
        session.on_end = lambda: logs.finish(request.label)
        session.start()
        return session

    def _send(self, session: FeedSession) -> None:
        """Sends rows while there is room; in which form, the script's first ACK says."""
        if session.wanted is None:
            session.waiting = self._rows.count
            return
        if session.wanted == wire.WANT_DATASET:
            self._send_dataset(session)
            return
        if self._rows.is_spooled:
            raise FeedError(
                f"{session.label}: the script asks for batches of a bundle that the attempt before had as a whole: use "
                "either config.datasets() or config.batches() in all attempts."
            )
        while session.has_room and (part := self._rows.next_unsent()) is not None:
            bounds = self._bounds(part.window)
            if bounds != self._sent_bounds:
                session.send_window(bounds)
                self._sent_bounds = bounds
            session.send_rows(part.count, part.payload)
        if self._is_whole and not self._has_said_end and self._rows.is_all_sent:
            self._has_said_end = True
            session.end_bundle()

    def _send_dataset(self, session: FeedSession) -> None:
        """Spools rows to files, one a window, and sends each when the bundle is whole."""
        self._rows.spool()
        if self._is_whole and self._rows.count and session.acked == session.sent:
            file = self._rows.next_file()
            session.send_dataset(file.path, file.count, self._bounds(file.window))

    def _take(self, session: FeedSession, frame: wire.Frame) -> Iterator[Done]:
        if frame.kind == wire.ACK:
            yield from self._acknowledge(session)
        else:
            # Of a batch that fails and is repeated, nothing is given out and nothing counted.
            self._held.add(frame)

    def _acknowledge(self, session: FeedSession) -> Iterator[Done]:
        position = session.acked + self._base
        if position > self._rows.start:
            self._attempt = 1
            self._last_done = self._rows.acknowledge(position)
            yield from self._take_held(*self._last_done)

    def _take_held(self, window: Any, timestamp_micros: int) -> Iterator[Done]:
        for frame in self._held.take():
            if frame.kind == wire.METRICS:
                metrics.add_from_script(frame.json())
            else:
                yield Done(window, timestamp_micros, frame.records())

    def _fail(self, error: ScriptDied | ScriptRaised | NeverStarted) -> Iterator[Done]:
        """Starts anew from the first row that is not done, as often as may be."""
        session = self._session
        assert session is not None
        if isinstance(error, NeverStarted):
            error = session.process.died(session.label)
        metrics.add("runs_failed")
        metrics.add("process_deaths", isinstance(error, ScriptDied))
        wanted = session.wanted
        self._give_back(keep=False)
        self._held.drop()
        if not self._rows.count:
            _LOGGER.warning("%s\nAll rows of the bundle were done by then.", error)
            return
        # A process that ended between two bundles, while nothing was asked of it, has not failed at these rows.
        self._attempt += not self._may_be_stale
        assert self._options.max_attempts is not None
        if self._attempt <= self._options.max_attempts:
            _LOGGER.warning("%s\nThe bundle's rows from number %d on are sent again.", error, self._rows.start + 1)
            return
        if not self._keep_going or wanted is None:
            raise error
        self._attempt = 1
        _LOGGER.warning("%s\nThe batch has failed %d times and is left out.", error, self._options.max_attempts)
        window, timestamp, records = self._rows.take_batch(wanted)
        yield Done(window, timestamp, [], killed=records, error=error)

    def _stop(self, session: FeedSession) -> Iterator[Done]:
        """The script asked for the end: what it has not read, and what else comes, is counted and left."""
        yield from self._acknowledge(session)
        # What it wrote without having read rows of this bundle, as where it was asked for the end between two.
        yield from self._take_held(*(self._last_done or self._rows.first_place()))
        self._pool.stop(self._options.key)
        metrics.add("rows_unread", self._rows.count)
        self._rows.clear()
        self._give_back(keep=False)

    def _give_back(self, *, keep: bool) -> None:
        if self._session is not None:
            process, self._session = self._session.process, None
            self._pool.release(process, keep=keep)


def merge(parts: Iterable[Done]) -> Iterator[Done]:
    """Joins what follows one another in one place: decoding some rows costs as much as decoding some thousand."""
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
    same_place = (first.window, first.timestamp_micros) == (second.window, second.timestamp_micros)
    return same_place and first.error is second.error is None and len(first.records) < wire.FRAME_TARGET_RECORDS

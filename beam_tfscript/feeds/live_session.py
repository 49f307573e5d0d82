"""One process of a live run: rows queued for it, and outputs held until their rows are acknowledged."""

from __future__ import annotations

import os
from collections.abc import Iterator

from beam_tfscript.feeds.feed_session import FeedSession
from beam_tfscript.feeds.held_outputs import HeldOutputs
from beam_tfscript.feeds.row_backlog import PackedRows, RowBacklog
from beam_tfscript.feeds.session import RunRequest
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.process import ScriptProcess

# What belongs to a batch until the batch is done.
_HELD = (wire.EXAMPLES, wire.METRICS, wire.EXPORT)
# How often outputs are looked for that may or may not come.
_QUIET_POLLS = 5


class LiveSession:
    """A process that is fed as rows come.

    Args:
      process: leased by the run.
      request: what the run is told.
      directory: the run's own.

    Attributes:
      session: the run on the process.
      given: rows that were given to this session: sent, or waiting for room.
      acked: how many of them are done, and their outputs given out. What `session` has heard is further while another
        task's failure is looked into: nobody takes the outputs then.
    """

    def __init__(self, process: ScriptProcess, request: RunRequest, directory: str):
        self.session = FeedSession(process, request)
        self.given = 0
        self.acked = 0
        self._backlog = RowBacklog(os.path.join(directory, f"backlog-{process.pid}"))
        self._held = HeldOutputs(lambda: directory)
        self._is_ending = False
        self._quiet_polls = 0
        self.session.start()

    @property
    def is_done(self) -> bool:
        """Whether `main` has returned."""
        return self.session.summary is not None

    @property
    def has_backlog(self) -> bool:
        """Whether rows wait for room."""
        return bool(self._backlog) and not self.is_done

    @property
    def is_starving(self) -> bool:
        """Whether the script asks for rows, has none left, and none are on their way to it."""
        is_asking = self.session.wanted is not None and self.session.acked == self.session.sent
        return is_asking and not self._is_ending and not self._backlog and not self.is_done

    @property
    def may_give_more(self) -> bool:
        """Whether outputs may come without more rows.

        Of rows that TensorFlow pulls by itself it is not known when they are done: their outputs are looked for some
        times.
        """
        if self.is_done:
            return bool(self._held)
        if self.given > self.acked or self._held:
            return True
        return self.session.wanted == wire.WANT_ANY and self._quiet_polls < _QUIET_POLLS

    @property
    def unread(self) -> int:
        """Of a run that has asked for the end of its feed, the rows that it was given and has not read."""
        assert self.session.summary is not None
        return self.given - self.session.summary["taken"]

    def put(self, rows: PackedRows) -> None:
        """Give rows, which are sent as soon as there is room for them."""
        self.given += rows.num_rows
        self._quiet_polls = 0
        if not self.is_done:
            self._backlog.put(rows)
            self.pump()

    def end_feed(self) -> None:
        """Say that no more rows come, once those that wait are sent."""
        self._is_ending = True
        self.pump()

    def pump(self) -> None:
        """Send what there is room for."""
        while self.has_backlog and self.session.has_room:
            self.session.send_rows(*self._backlog.take())
        if self._is_ending and not self._backlog and not self.is_done:
            self.session.end_feed()

    def receive(self) -> Iterator[wire.Frame]:
        """Yield what the run has given, without waiting; outputs of a batch come when the batch is done.

        What a script writes of a batch before it dies would otherwise be given out, and its rows be repeated too. Rows
        that TensorFlow pulls by itself are acknowledged ahead of their outputs: those are not held.
        """
        self._quiet_polls += 1
        while (frame := self.session.receive(0.0)) is not None:
            self._quiet_polls = 0
            if frame.kind == wire.ACK:
                acked = self.session.acked
                yield from self._held.take()
                self.acked = acked
                self.pump()
            elif frame.kind in _HELD and self.session.wanted not in (None, wire.WANT_ANY):
                self._held.add(frame)
            else:
                yield frame
        if self.is_done:
            yield from self._held.take()
            # One that has asked for the end of its feed has done with all that it is given.
            self.acked = self.given

    def close(self) -> None:
        """Forget rows that wait, and outputs that are held."""
        self._backlog.close()
        self._held.drop()

"""One task of a live run: rows queued for its process, and outputs held until their rows are acknowledged."""

from __future__ import annotations

import os
from collections.abc import Iterator

from beam_tfscript.errors import ScriptEnvironmentError, ScriptError
from beam_tfscript.feeds.fed_run import FedRun
from beam_tfscript.feeds.held_outputs import HeldOutputs
from beam_tfscript.feeds.row_backlog import PackedRows, RowBacklog
from beam_tfscript.feeds.run import RunRequest
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.process import ScriptProcess

# How often a run is polled for outputs that may or may not come.
_QUIET_POLLS = 5


class LiveTask(FedRun):
    """A run that is fed as rows come, and polled for its outputs; it starts when it is made.

    Args:
      process: leased by the run.
      request: the run's request.
      directory: the run's own.

    Attributes:
      given: rows that were given to this run: sent, or waiting for room.
      done: number of these rows that are done, and their outputs given out. `acked` is ahead of it while another task's
        failure is looked into: then nobody takes the outputs.
    """

    def __init__(self, process: ScriptProcess, request: RunRequest, directory: str):
        super().__init__(process, request)
        self.given = 0
        self.done = 0
        self._backlog = RowBacklog(os.path.join(directory, f"backlog-{process.pid}"))
        self._held = HeldOutputs(lambda: directory)
        self._is_ending = False
        self._quiet_polls = 0
        self._failure: ScriptError | ScriptEnvironmentError | None = None  # for the next `receive`
        self.start()

    @property
    def has_backlog(self) -> bool:
        """True if rows wait for room."""
        return bool(self._backlog) and not self.is_over

    @property
    def is_starving(self) -> bool:
        """True if the script asks for rows, has none left, and none are on their way."""
        is_asking = self.wanted is not None and self.acked == self.sent
        return is_asking and not self._is_ending and not self._backlog and not self.is_over

    @property
    def may_give_more(self) -> bool:
        """True if outputs may come without more rows.

        TensorFlow does not say when the rows that it pulls are done. Their outputs are polled for a few times.
        """
        if self.is_over:
            return bool(self._held)
        if self.given > self.done or self._held:
            return True
        return self.wanted == wire.WANT_ANY and self._quiet_polls < _QUIET_POLLS

    @property
    def unread(self) -> int:
        """Rows that a run which is over was given and has not read."""
        return 0 if self.summary is None else self.given - self.summary["taken"]

    def put(self, rows: PackedRows) -> None:
        """Give rows, which are sent as soon as there is room for them."""
        self.given += rows.num_rows
        self._quiet_polls = 0
        if not self.is_over:
            self._backlog.put(rows)
            self.pump()

    def end_when_sent(self) -> None:
        """End the feed as soon as the rows that wait are sent."""
        self._is_ending = True
        self.pump()

    def pump(self) -> None:
        """Send the rows that there is room for."""
        while self.has_backlog and self.has_room:
            self.send_rows(*self._backlog.take())
        if self._is_ending and not self._backlog and not self.is_over:
            self.end_feed()

    def poll(self) -> Iterator[wire.Frame]:
        """Yield outputs whose rows are done, without waiting for more.

        Outputs of a batch are held until its ACK. Else a script that dies in the batch would have its outputs given
        out, and the batch's rows repeated too. TensorFlow's own reads are acknowledged ahead of their outputs: those
        are not held.
        """
        self._quiet_polls += 1
        while (frame := self.receive(0.0)) is not None:
            self._quiet_polls = 0
            if frame.kind == wire.ACK:
                acked = self.acked
                yield from self._held.take()
                self.done = acked
                self.pump()
            elif self.wanted in (None, wire.WANT_ANY):
                yield frame
            else:
                self._held.add(frame)
        if self.is_over:
            yield from self._held.take()
            # A script that asks for the end of its feed has done with all rows that it was given.
            self.done = self.given

    def poll_early(self) -> Iterator[wire.Frame]:
        """Yield outputs as `poll` does, before the outputs of another task; a failure waits for the next `receive`."""
        try:
            yield from self.poll()
        except (ScriptError, ScriptEnvironmentError) as error:
            self._failure = error

    def receive(self, timeout_s: float | None = None) -> wire.Frame | None:
        """As `FedRun.receive`; raises a failure that `poll_early` has met."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return super().receive(timeout_s)

    def discard(self) -> None:
        """Forget rows that wait, and outputs that are held."""
        self._backlog.close()
        self._held.drop()

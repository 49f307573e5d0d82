"""A run whose rows are sent while it goes on: rows that were sent, rows that are done, and room for more."""

from __future__ import annotations

import collections
import logging
from typing import Any

from beam_tfscript.errors import FeedError, ProtocolError, ScriptError
from beam_tfscript.feeds.run import Run, RunRequest
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.process import ScriptProcess

_LOGGER = logging.getLogger(__name__)

# Serialized rows that may be sent and not done. Fewer would let the script wait for the pipeline's process; more would
# take memory, though little beside TensorFlow's own.
IN_FLIGHT_BYTES = 16 << 20
# A script that goes on after the end of its feed is mentioned in the log after this time.
_END_NOTICE_S = 5.0


class FedRun(Run):
    """One run in the feeds `bundles` and `stream`.

    Attributes:
      sent: rows sent since the run began.
      acked: number of these rows that are done, and their outputs received.
      wanted: the number of rows that the last ACK asked for, `wire.WANT_ANY` or `wire.WANT_DATASET`; None before the
        first ACK.
      in_flight_bytes: size of the rows that are sent and not done.
      waiting: rows that will be sent when the script asks for some.
    """

    def __init__(self, process: ScriptProcess, request: RunRequest):
        super().__init__(process, request)
        self.sent = 0
        self.acked = 0
        self.wanted: int | None = None
        self.in_flight_bytes = 0
        self.waiting = 0
        self._fills_batches = request.message["feed"] == "bundles"
        self._has_ended_bundle = False
        self._sizes: collections.deque[tuple[int, int]] = collections.deque()
        self._has_ended_feed = False

    @property
    def has_room(self) -> bool:
        """True if more rows may be sent: a batch that the script waits for is sent whole, however large it is."""
        if self.in_flight_bytes < IN_FLIGHT_BYTES:
            return True
        return self.wanted not in (None, wire.WANT_DATASET) and self.sent - self.acked < (self.wanted or 1)

    def send_window(self, window: tuple[float, float] | None) -> None:
        """Send the window of the rows that follow."""
        self.process.channel.send(wire.control_frame(wire.WINDOW, window))

    def send_rows(self, count: int, payload: bytes) -> None:
        """Send rows, packed by `wire.pack_records`."""
        self._count_sent(count, len(payload))
        self.process.channel.send(wire.Frame(wire.ROWS, count, payload))

    def send_dataset(self, path: str, count: int, window: tuple[float, float] | None) -> None:
        """Send a bundle's rows as a TFRecord file."""
        self._count_sent(count, 0)
        self.process.channel.send(wire.control_frame(wire.DATASET, {"path": path, "count": count, "window": window}))

    def end_bundle(self) -> None:
        """Tell the script that the rows sent by now are a batch, however few they are."""
        self._before_send()
        self._has_ended_bundle = True
        self.process.channel.send(wire.control_frame(wire.END_BUNDLE))

    def end_feed(self) -> None:
        """Tell the script that no more rows come."""
        if not self._has_ended_feed:
            self._has_ended_feed = True
            # From here on main has to return.
            self._end_silence()
            self.process.channel.send(wire.control_frame(wire.END_FEED))

    def receive(self, timeout_s: float | None = None) -> wire.Frame | None:
        """Wait for the next frame, as `Run.receive` does; note the rows that an ACK says are done."""
        frame = super().receive(timeout_s)
        if frame is not None and frame.kind == wire.ACK:
            self.acked, self.wanted = wire.unpack_ack(frame)
            while self._sizes and self._sizes[0][0] <= self.acked:
                self.in_flight_bytes -= self._sizes.popleft()[1]
        return frame

    def close(self) -> None:
        """End a run that no bundle will ask for again; log rows that it still writes, and a failure."""
        self.end_feed()
        rows = 0
        try:
            if (frame := self.receive(_END_NOTICE_S)) is None and not self.is_over:
                _LOGGER.info("%s: its feed has ended; waiting for main to return", self.label)
            while not self.is_over:
                rows += frame.count if frame is not None and frame.kind == wire.EXAMPLES else 0
                frame = self.receive()
        except (ScriptError, ProtocolError) as error:
            _LOGGER.warning("%s failed when its feed had ended, with all its rows done: %s", self.label, error)
        if rows:
            _LOGGER.warning(
                "%s wrote %d rows after its feed had ended: there is no bundle that could take them. Write a batch's "
                "rows before asking for the next batch.",
                self.label, rows,
            )  # fmt: skip

    @property
    def _may_read(self) -> bool:
        """True if the script has all the rows that it waits for, or could have asked for them."""
        if self.wanted is None:
            return bool(self.sent or self.waiting)
        if self.wanted == wire.WANT_DATASET or self._has_ended_bundle or not self._fills_batches:
            return self.sent > self.acked
        return self.sent - self.acked >= self.wanted

    def _before_send(self) -> None:
        """Count the script's silence from the time at which there is something to read."""
        if not self._may_read:
            self._end_silence()

    def _count_sent(self, count: int, size: int) -> None:
        self._before_send()
        self._has_ended_bundle = False
        self.sent += count
        self.in_flight_bytes += size
        self._sizes.append((self.sent, size))

    def _finish(self, summary: dict[str, Any]) -> None:
        super()._finish(summary)
        unread = self.sent - summary["taken"]
        if summary["stopped"]:
            # A script that asks for the end has done with the rows that it took.
            self.acked = summary["taken"]
        if summary["stopped"] or (self._has_ended_feed and not unread):
            return
        reason = f"{unread} rows that it was sent are unread" if unread else "its feed goes on"
        raise FeedError(
            f"{self.label}: main returned, but {reason}. A script in this feed reads until the feed ends: loop over "
            "config.batches(n), config.datasets() or config.dataset_fn(). config.stop() ends a feed early."
        )

    @property
    def _is_frame_due(self) -> bool:
        return self._may_read or self._has_ended_feed

    @property
    def _has_own_pace(self) -> bool:
        """True if the run was never given rows, and may compute for any time."""
        return self._has_ended_feed and not self.sent

    def _on_silence(self, stack: str) -> None:
        if self._has_own_pace:
            super()._on_silence(stack)
        elif self._is_frame_due:  # else the script has had nothing to read since it was asked
            raise FeedError(f"{self._describe_silence()} It is at\n{stack}")

    def _on_no_answer(self) -> None:
        if self._has_own_pace:
            super()._on_no_answer()
        else:
            raise self.process.hangs(self._describe_silence().rstrip("."))

    def _describe_silence(self) -> str:
        silence_s = self._request.silence_s
        rows = self.sent - self.acked if self.sent or self.wanted is not None else self.waiting
        if self._has_ended_feed and not rows:
            return (
                f"{self.label}: the feed of the script has ended, and main has neither returned nor written anything "
                f"for feed_timeout={silence_s:g} s. If the script's work after its loop takes that long, give a larger "
                "feed_timeout."
            )
        return (
            f"{self.label}: the script has {rows} rows to read, and has neither asked for more nor written anything "
            f"for feed_timeout={silence_s:g} s. If a batch takes that long, give a larger feed_timeout or ask for "
            "smaller batches."
        )

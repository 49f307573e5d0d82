"""The rows of a run that goes on while they come: frames in from the channel, records out as the script asks.

The rule that all rests on: whoever asks for more has done with what was handed out before. So each asking sends on
what was written, and behind it an ACK with the position that is done; the pipeline's process repeats nothing that
is behind such a position, and emits nothing that is not.
"""

import queue

from beam_tfscript.runtime.transport import wire

# The most that is handed to TensorFlow as one vector: enough to make the cost of a call nothing.
_VECTOR_RECORDS = 4096


class FeedMisused(TypeError):
    """The script asked for rows in a way that its feed does not have; another attempt would do the same."""


class Feed(object):
    """The rows of one run.

    Args:
      connection: where ACKs go.
      frames: queue of the frames that the channel brings for this run.
      flush: called before each ACK; sends on what the script wrote.
      fills_batches: whether a batch waits for all its rows, where more are to come; else it is what is there.

    Attributes:
      window: the window of the rows handed out last, as (start, end) or None.
      position: how many rows were handed out and done with.
      taken: how many rows were handed out.
      stopped: whether the script asked for the end.
      ended: whether the end was reached.
      asked_again: whether the script asked for rows once more after it was told of the end.
    """

    def __init__(self, connection, frames, flush, fills_batches):
        self.window = None
        self.position = 0
        self.taken = 0
        self.stopped = False
        self.ended = False
        self.asked_again = False
        self._has_told_end = False
        self._connection = connection
        self._frames = frames
        self._flush = flush
        self._fills_batches = fills_batches
        self._held = None  # a frame that was received too early to be dealt with
        self._records = []
        self._next = 0
        self._unit = None

    def take(self, n):
        """Waits for a batch of records of one window.

        Args:
          n: how many; fewer come where the window changes, the bundle ends, or no more are there and batches
            are not filled. Never none.

        Returns:
          A list of serialized Examples; None at the end of the feed.
        """
        self._use("rows")
        self._acknowledge(min(n, wire.WANT_MOST))
        batch = []  # type: list
        while len(batch) < n and not self.stopped:
            if self._next < len(self._records):
                part = self._records[self._next : self._next + n - len(batch)]
                self._next += len(part)
                batch.extend(part)
            elif not self._receive(bool(batch)):
                break
        self.taken += len(batch)
        return batch or self._tell_end()

    def take_any(self):
        """Waits for rows and gives what is there, at least one; None at the end of the feed."""
        self._use("rows")
        self._acknowledge(wire.WANT_ANY)
        while self._next >= len(self._records) or self.stopped:
            if self.stopped or not self._receive(False):
                return self._tell_end()
        part = self._records[self._next : self._next + _VECTOR_RECORDS]
        self._next += len(part)
        self.taken += len(part)
        return part

    def take_dataset(self):
        """Waits for a whole bundle; gives (path of a TFRecord file, rows in it), or None at the end of the feed."""
        self._use("datasets")
        self._acknowledge(wire.WANT_DATASET)
        while True:
            frame = self._next_frame()
            if frame is None:
                return self._tell_end()
            if frame.kind == wire.DATASET:
                found = frame.json()
                self.window = found["window"]
                self.taken += found["count"]
                return found["path"], found["count"]

    def stop(self):
        """Ends the feed: nothing more is handed out."""
        self._connection.check_owner("config.stop()")
        self.stopped = True
        # Wakes whoever waits.
        self._frames.put(wire.control_frame(wire.END_FEED))

    def _tell_end(self):
        """None, which tells the script of the end; takes note of one that asks again."""
        self.asked_again = self.asked_again or (self._has_told_end and not self.stopped)
        self._has_told_end = True

    def _use(self, unit):
        # A child has no thread that rows come by: it would wait for ever.
        self._connection.check_owner("reading rows of the feed")
        if self._unit not in (None, unit):
            raise FeedMisused(
                "config.datasets() and config.batches() cannot be used in one run: the rows reach it either as whole "
                "bundles or as batches. Use one of them."
            )
        self._unit = unit

    def _acknowledge(self, wanted):
        self.position = self.taken
        self._flush()
        if not self.stopped:
            self._connection.send(wire.ack_frame(self.position, wanted))

    def _receive(self, has_rows):
        """Deals with the next frame; returns False where a batch ends, which with no rows is the end of the feed."""
        frame = self._next_frame(wait=self._fills_batches or not has_rows)
        if frame is None:
            return False
        if frame.kind == wire.ROWS:
            self._records, self._next = frame.records(), 0
        elif frame.kind == wire.WINDOW:
            if has_rows:
                self._held = frame
                return False
            self.window = frame.json()
        elif frame.kind == wire.END_BUNDLE:
            return not has_rows
        return True

    def _next_frame(self, wait=True):
        """The next frame; None at the end of the feed, again and again, or where none is there and it is not waited."""
        if self._held is not None:
            frame, self._held = self._held, None
            return frame
        if self.ended or self.stopped:
            return None
        try:
            frame = self._frames.get(wait)
        except queue.Empty:
            return None
        if frame.kind == wire.END_FEED:
            self.ended = True
            return None
        return frame

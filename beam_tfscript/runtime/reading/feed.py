"""Rows that come during a run: frames of the channel in, records out as the script requests them.

The rule: a script that requests more rows is done with the rows before. So each request first sends the outputs, and
then an ACK with the position up to which rows are done. The pipeline's process emits outputs of acknowledged rows only,
and repeats only rows that are not acknowledged. If the ACK came first, a crash between the two would lose outputs.
"""

import queue

from beam_tfscript.runtime.transport import wire

# Records per vector for TensorFlow: so many that the cost per call is small beside the cost of the records. More would
# be acknowledged later, and repeated after a crash.
_VECTOR_RECORDS = 4096


class FeedMisused(TypeError):
    """The script reads rows in a way that its feed does not have. Permanent failure: a retry would do the same."""


class Feed(object):
    """Rows of one run, for one thread of the script.

    Args:
      connection: `Connection` that ACKs are sent by.
      frames: queue of the frames that the channel brings for this run.
      flush: function that sends the script's outputs; called before each ACK.
      fills_batches: True if a batch waits until it is full; False if it takes the rows that are there.

    Attributes:
      window: window of the last rows that the script got, as (start, end) in seconds, or None.
      position: number of rows that are done.
      taken: number of rows that the script got.
      stopped: True after `stop()`.
      ended: True after END_FEED.
      asked_again: True if the script requested rows after it was told of the end.
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
        self._held = None  # WINDOW frame that ended the last batch, and belongs to the next one
        self._records = []
        self._next = 0
        self._unit = None

    def take(self, n):
        """Wait for a batch of records of one window.

        Without a timeout: the receiving thread kills the process when the channel ends.

        Args:
          n: maximum number of records. A batch has fewer at the end of a window or bundle, and where batches are not
            filled; at least one.

        Returns:
          A list of serialized Examples; None at the end of the feed.

        Raises:
          FeedMisused: the run takes whole bundles as well.
          ForkedError: the process is a child that the script forked.
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
        """Wait for rows, and return those that are there, at least one; None at the end. Raise as `take` does."""
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
        """Wait for a whole bundle.

        Returns:
          (path of a TFRecord file, number of its rows); None at the end of the feed.

        Raises:
          FeedMisused: the run takes rows as well.
          ForkedError: the process is a child that the script forked.
        """
        self._use("datasets")
        self._acknowledge(wire.WANT_DATASET)
        while True:
            frame = self._next_frame()
            if frame is None:
                return self._tell_end()
            if frame.kind == wire.DATASET:
                dataset = frame.json()
                self.window = dataset["window"]
                self.taken += dataset["count"]
                return dataset["path"], dataset["count"]

    def stop(self):
        """End the feed: the script gets no more rows; may be called from any thread."""
        self._connection.check_owner("config.stop()")
        self.stopped = True
        # Wakes a thread that waits in `take`: it would wait forever if the pipeline has no more rows now.
        self._frames.put(wire.control_frame(wire.END_FEED))

    def _tell_end(self):
        """Return None, which tells the script of the end; note a script that asks again."""
        self.asked_again = self.asked_again or (self._has_told_end and not self.stopped)
        self._has_told_end = True

    def _use(self, unit):
        # fork() does not copy the receiving thread: a child would wait forever.
        self._connection.check_owner("reading rows of the feed")
        if self._unit not in (None, unit):
            raise FeedMisused(
                "config.datasets() and config.batches() cannot be used in one run: its rows come either as whole "
                "bundles or as batches. Use one of them."
            )
        self._unit = unit

    def _acknowledge(self, wanted):
        self.position = self.taken
        self._flush()
        # After a stop, DONE acknowledges: the script may still write outputs of the last rows.
        if not self.stopped:
            self._connection.send(wire.ack_frame(self.position, wanted))

    def _receive(self, has_rows):
        """Receive the next frame; return False at the end of a batch, or of the feed if the batch has no rows."""
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
        """Return the next frame; None at the end of the feed, or if no frame is there and `wait` is False."""
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

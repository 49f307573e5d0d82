"""Output of a run: rows from any thread of the script in, EXAMPLES frames out."""

import threading

from beam_tfscript.runtime.columns import OutputMismatch
from beam_tfscript.runtime.transport import wire
from beam_tfscript.runtime.writing.encode import ExampleEncoder

# Seconds that a row waits for more rows to share a frame with. Without a wait, each row would cost a frame. A longer
# wait would delay a stream's outputs.
_LINGER_S = 0.02


class OutputWriter(object):
    """Writer of the rows of one run; safe to use from several threads of the script.

    Rows are sent in frames of about 1 MiB; the last ones when `main` returns.

    Args:
      connection: the `Connection` to the pipeline's process.
      columns: list of the output schema's `Column`s; None for a run without output.

    Attributes:
      count: number of rows sent.
      on_pending: called without arguments when a first row waits to be sent; or None.
    """

    def __init__(self, connection, columns):
        self._connection = connection
        self._encoder = None if columns is None else ExampleEncoder(columns)
        self._lock = threading.Lock()
        self._records = []
        self._bytes = 0
        self._closed = False
        self.count = 0
        self.on_pending = None

    def write(self, example):
        """Write one row.

        Args:
          example: a `tf.train.Example`, or its serialized bytes. A message is checked against the output schema
            here. Bytes are checked later, by the pipeline: decoding them here would double the work.

        Raises:
          OutputMismatch: the message does not fit the output schema, or the run has no output.
          ForkedError: the process is a child that the script forked.
          RuntimeError: the run is over.
        """
        self._add([self._usable_encoder().encode_example(example)])

    def write_row(self, values):
        """Write one row, a dict of column name -> value; raise as `write` does."""
        self._add([self._usable_encoder().encode_row(values)])

    def write_columns(self, columns):
        """Write many rows, a dict of column name -> values, all of one length; raise as `write` does."""
        self._add(self._usable_encoder().encode_batch(columns))

    def flush(self):
        """Send the rows that are gathered."""
        self._connection.check_owner("flushing rows")
        with self._lock:
            self._send()

    def close(self):
        """Send the rows that are gathered, and refuse further rows."""
        with self._lock:
            self._send()
            self._closed = True

    def _usable_encoder(self):
        if self._encoder is None:
            raise OutputMismatch(
                "this run has no output: the transform was given output_schema=None. Name the columns there, "
                'for example output_schema="id string, score float".'
            )
        return self._encoder

    def _add(self, records):
        # Checked here and not when rows are sent: a child that ends before would lose its rows without an error.
        self._connection.check_owner("writing rows")
        with self._lock:
            if self._closed:
                raise RuntimeError("the run is over: rows cannot be written after main has returned")
            # In parts: all rows of a large batch in one frame would exceed the frame's size by far.
            for start in range(0, len(records), wire.FRAME_TARGET_RECORDS):
                part = records[start : start + wire.FRAME_TARGET_RECORDS]
                if not self._records and self.on_pending is not None:
                    self.on_pending()
                self._records.extend(part)
                self._bytes += sum(map(len, part))
                if self._bytes >= wire.FRAME_TARGET_BYTES or len(self._records) >= wire.FRAME_TARGET_RECORDS:
                    self._send()

    def _send(self):
        # The lock is held while the pipeline is slow to read. So the script's threads wait, and memory stays bounded.
        if self._records:
            records, self._records, self._bytes = self._records, [], 0
            self.count += len(records)
            self._connection.send(wire.records_frame(wire.EXAMPLES, records))


class Flusher(object):
    """Thread that sends a writer's rows soon after they were written.

    Without it, a row would wait until the script asks for its next rows, which may take hours in a stream.

    Args:
      writer: the `OutputWriter`.
    """

    def __init__(self, writer):
        self._writer = writer
        self._pending = threading.Event()
        self._closed = threading.Event()
        writer.on_pending = self._pending.set
        self._thread = threading.Thread(target=self._flush, name="beam_tfscript-flusher", daemon=True)
        self._thread.start()

    def close(self):
        """End the thread, and wait for its end."""
        self._closed.set()
        self._pending.set()
        self._thread.join()

    def _flush(self):
        while not self._closed.is_set():
            self._pending.wait()
            self._closed.wait(_LINGER_S)
            # Before the flush: a row that is written during the flush sets the event again, and is not forgotten.
            self._pending.clear()
            self._writer.flush()

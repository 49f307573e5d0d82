"""What a run gives back: Examples and metrics, gathered and sent in frames."""

import threading

from beam_tfscript.runtime.columns import OutputMismatch
from beam_tfscript.runtime.transport import wire
from beam_tfscript.runtime.writing.encode import ExampleEncoder

# How long rows may wait for others to leave with; less would cost a frame a row.
_LINGER_S = 0.02
# A distribution's values are sent one by one, as Beam wants them: this many of them in a frame.
_METRIC_VALUES = 1024


class OutputWriter(object):
    """Writes the rows of one run; safe to use from several threads of the script.

    Rows leave in frames of about one mebibyte; the last ones when `main` returns.
    """

    def __init__(self, connection, columns):
        self._connection = connection
        self._encoder = None if columns is None else ExampleEncoder(columns)
        self._lock = threading.Lock()
        self._records = []
        self._bytes = 0
        self._closed = False
        self.count = 0
        self.on_pending = None  # called when a row begins to wait

    def write(self, example):
        """Writes one row.

        Args:
          example: a `tf.train.Example` message, or its serialized bytes. A message is checked
            against the output schema at once; bytes are checked by the pipeline.

        Raises:
          OutputMismatch: the message does not fit the output schema.
        """
        self._add([self._usable_encoder().encode_example(example)])

    def write_row(self, values):
        """Writes one row given as a dict of column values."""
        self._add([self._usable_encoder().encode_row(values)])

    def write_columns(self, columns):
        """Writes many rows given as a dict of equally long columns."""
        self._add(self._usable_encoder().encode_batch(columns))

    def flush(self):
        """Sends on what is gathered."""
        self._connection.check_owner("flushing rows")
        with self._lock:
            self._send()

    def close(self):
        """Sends on what is gathered and refuses further rows."""
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
        # At once, not when they are sent: a child that just ends would lose them without a word.
        self._connection.check_owner("writing rows")
        with self._lock:
            if self._closed:
                raise RuntimeError("the run is over: rows cannot be written after main has returned")
            for start in range(0, len(records), wire.FRAME_TARGET_RECORDS):
                part = records[start : start + wire.FRAME_TARGET_RECORDS]
                if not self._records and self.on_pending is not None:
                    self.on_pending()
                self._records.extend(part)
                self._bytes += sum(map(len, part))
                if self._bytes >= wire.FRAME_TARGET_BYTES or len(self._records) >= wire.FRAME_TARGET_RECORDS:
                    self._send()

    def _send(self):
        if self._records:
            records, self._records, self._bytes = self._records, [], 0
            self.count += len(records)
            self._connection.send(wire.records_frame(wire.EXAMPLES, records))


class Flusher(object):
    """Sends on what a writer has gathered soon after it was written, by a thread of its own.

    Args:
      writer: the OutputWriter.
    """

    def __init__(self, writer):
        self._writer = writer
        self._pending = threading.Event()
        self._closed = threading.Event()
        writer.on_pending = self._pending.set
        self._thread = threading.Thread(target=self._flush, name="beam_tfscript-flusher", daemon=True)
        self._thread.start()

    def close(self):
        """Ends the thread."""
        self._closed.set()
        self._pending.set()
        self._thread.join()

    def _flush(self):
        while not self._closed.is_set():
            self._pending.wait()
            self._closed.wait(_LINGER_S)
            self._pending.clear()
            self._writer.flush()


class Counter(object):
    """A number that the script adds to; arrives as a Beam counter of the same name."""

    def __init__(self, metrics, name):
        self._metrics = metrics
        self._name = name

    def inc(self, n=1):
        """Adds `n`."""
        self._metrics.add_count(self._name, n)

    def dec(self, n=1):
        """Takes `n` away."""
        self._metrics.add_count(self._name, -n)


class Distribution(object):
    """Integer values that the script observes; arrives as a Beam distribution of the same name."""

    def __init__(self, metrics, name):
        self._metrics = metrics
        self._name = name

    def update(self, value):
        """Adds one observation; Beam's distributions hold whole numbers, so a fraction is cut off."""
        self._metrics.add_value(self._name, value)


class Metrics(object):
    """Gathers the script's counters and distributions, and sends what changed."""

    def __init__(self, connection):
        self._connection = connection
        self._lock = threading.Lock()
        self._counts = {}
        self._values = {}
        self._pending_values = 0
        self._load_s = None

    def loaded(self, seconds):
        """Notes how long the import of the script took; nobody's counter, but it goes the same way."""
        self._load_s = seconds

    def add_count(self, name, n):
        self._connection.check_owner("counting")
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + int(n)

    def add_value(self, name, value):
        self._connection.check_owner("counting")
        with self._lock:
            self._values.setdefault(name, []).append(int(value))
            self._pending_values += 1
            if self._pending_values >= _METRIC_VALUES:
                self._send()

    def flush(self):
        """Sends what changed since the last time."""
        with self._lock:
            self._send()

    def _send(self):
        if self._counts or self._values or self._load_s is not None:
            changes = {"counters": self._counts, "distributions": self._values, "load_s": self._load_s}
            self._counts, self._values, self._pending_values, self._load_s = {}, {}, 0, None
            self._connection.report(wire.METRICS, changes)

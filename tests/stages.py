"""A stage of the `stream` feed on unbounded input, called as a runner calls it, with state and timers to look at."""

from __future__ import annotations

import dataclasses
import time

from apache_beam.transforms.window import IntervalWindow
from apache_beam.utils.timestamp import Timestamp

from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.schema import Schema
from beam_tfscript.runtime.transport import wire

WINDOW = IntervalWindow(0, 10)


class Value:
    """A value in state."""

    def __init__(self):
        self.value = None

    def read(self):
        return self.value

    def write(self, value):
        self.value = value

    def clear(self):
        self.value = None


class Bag:
    """A bag in state."""

    def __init__(self):
        self.values = []

    def read(self):
        return list(self.values)

    def add(self, value):
        self.values.append(value)

    def clear(self):
        self.values = []


class Timer:
    """A timer, and how often it was set."""

    def __init__(self):
        self.due = None
        self.count = 0

    def set(self, due):
        self.due = due
        self.count += 1

    def clear(self):
        self.due = None


def stream_options(transform, *, has_end=True):
    """Return the options of a stream whose stage is tested by itself: it takes four shards, with the processes of one.

    Args:
      transform: a RunTFScript.
      has_end: True for windows that end.
    """
    given = transform._options
    options = given.resolve("stream", given.input_schema, windows_end=has_end)
    return dataclasses.replace(options, shard_keys=(0, 1, 2, 3))


class Shard:
    """One key of the stage, in one window."""

    def __init__(self, dofn, shard=0, window=WINDOW, schema="id string"):
        self.encoder = RowEncoder(Schema.parse(schema))
        self.dofn, self.shard, self.window = dofn, shard, window
        self.key = dofn._options.shard_keys[shard]
        self.rows, self.state, self.window_end, self.poll = Bag(), Value(), Timer(), Timer()
        self.outputs = []

    def bring(self, *names, at=1.0):
        """Process a bundle with rows of these ids."""
        return self.bring_rows([{"id": name} for name in names], at=at)

    def bring_rows(self, rows, at=1.0):
        """Process a bundle of rows."""
        records = self.encoder.encode(rows, keep_going=False).examples
        chunk = self.key, (self.shard, len(records), wire.pack_records(records))
        return self._take(
            self.dofn.process(chunk, self.window, Timestamp(at), self.rows, self.state, self.window_end, self.poll)
        )

    def fire_poll(self):
        """Fire the poll timer."""
        self.poll.due = None
        return self._take(self.dofn.give_out_pending(self.key, self.window, self.rows, self.state, self.poll))

    def fire_end(self):
        """Fire the timer of the window's end."""
        self.window_end.due = None
        return self._take(self.dofn.end_window(self.key, self.window, self.rows, self.state, self.poll))

    def poll_until(self, *names):
        """Poll until these rows have come out; the timer must be armed all the time."""
        deadline = time.monotonic() + 60
        while not set(names) <= {row["id"] for row in self.outputs}:
            assert self.poll.due is not None and time.monotonic() < deadline, self.outputs
            time.sleep(0.05)
            self.fire_poll()

    def ids(self):
        """Return the ids of the rows that came out."""
        return [row["id"] for row in self.outputs]

    def _take(self, outputs):
        got = []
        for output in outputs:
            assert output.windows == (self.window,)
            assert output.timestamp <= self.window.max_timestamp()
            got.append({**output.value._asdict(), "timestamp": output.timestamp})
        self.outputs += got
        return [row.get("id") for row in got]

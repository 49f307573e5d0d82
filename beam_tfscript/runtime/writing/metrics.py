"""Counters and distributions of a run: the script's calls in, METRICS frames out."""

import threading

from beam_tfscript.runtime.transport import wire

# Beam needs each value of a distribution, so they are sent one by one: at most this many per frame.
_VALUES_PER_FRAME = 1024


class Counter(object):
    """Beam counter that the script adds to."""

    def __init__(self, metrics, name):
        self._metrics = metrics
        self._name = name

    def inc(self, n=1):
        """Add `n`, an integer."""
        self._metrics.add_count(self._name, n)

    def dec(self, n=1):
        """Subtract `n`, an integer."""
        self._metrics.add_count(self._name, -n)


class Distribution(object):
    """Beam distribution of integers that the script observes."""

    def __init__(self, metrics, name):
        self._metrics = metrics
        self._name = name

    def update(self, value):
        """Add one observation; a fraction is cut off, as Beam's distributions hold integers."""
        self._metrics.add_value(self._name, value)


class Metrics(object):
    """Metrics of a run that are not sent yet; safe to use from several threads of the script."""

    def __init__(self, connection):
        self._connection = connection
        self._lock = threading.Lock()
        self._counts = {}
        self._values = {}
        self._pending_values = 0
        self._load_s = None

    def set_load_s(self, seconds):
        """Set the seconds that loading the script took."""
        self._load_s = seconds

    def add_count(self, name, n):
        """Add `n` to a counter."""
        self._connection.check_owner("counting")
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + int(n)

    def add_value(self, name, value):
        """Add an observation to a distribution."""
        self._connection.check_owner("counting")
        with self._lock:
            self._values.setdefault(name, []).append(int(value))
            self._pending_values += 1
            if self._pending_values >= _VALUES_PER_FRAME:
                self._send()

    def flush(self):
        """Send the changes since the last call."""
        with self._lock:
            self._send()

    def _send(self):
        if self._counts or self._values or self._load_s is not None:
            changes = {"counters": self._counts, "distributions": self._values, "load_s": self._load_s}
            self._counts, self._values, self._pending_values, self._load_s = {}, {}, 0, None
            self._connection.send_control(wire.METRICS, changes)

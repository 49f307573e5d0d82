"""Calls a function after a while, on a thread of its own that is there for as long as it is waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Alarm:
    """One call that is due at a time.

    Args:
      ring: what to call; it may schedule the next call.
    """

    def __init__(self, ring: Callable[[], None]):
        self._ring = ring
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._due = 0.0

    def schedule(self, delay_s: float) -> None:
        """Makes the call after the delay, or earlier if it was due earlier."""
        with self._lock:
            due = time.monotonic() + delay_s
            if self._timer is not None:
                if self._due <= due:
                    return
                self._timer.cancel()
            self._due = due
            self._timer = threading.Timer(delay_s, self._call)
            self._timer.name = "beam_tfscript-idle"
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """Makes no call, and waits for one that is being made, unless it is the one that asks."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None and timer is not threading.current_thread():
            timer.cancel()
            timer.join()

    def _call(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():
                self._timer = None
        self._ring()

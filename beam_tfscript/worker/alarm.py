"""A function called after a delay, on a thread that exists only while a call is due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)


class Alarm:
    """One call that is due at a time.

    Args:
      ring: the function; it may schedule the next call.
    """

    def __init__(self, ring: Callable[[], None]):
        self._ring = ring
        self._changed = threading.Condition()
        self._due: float | None = None
        self._thread: threading.Thread | None = None

    def schedule(self, delay_s: float) -> None:
        """Make the call after the delay, or earlier if it was due earlier."""
        with self._changed:
            due = time.monotonic() + delay_s
            self._due = due if self._due is None else min(self._due, due)
            if self._thread is None:
                self._start()
            self._changed.notify()

    def cancel(self) -> None:
        """Cancel the call, unless it is being made already; return at once."""
        with self._changed:
            self._due = None
            self._changed.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="beam_tfscript-idle", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # An interpreter that is shutting down starts no threads; its exit handler ends the processes.
            _LOGGER.debug("no thread to look after idle processes: %s", error)
            self._due = None
        else:
            self._thread = thread

    def _run(self) -> None:
        while self._is_due():
            try:
                self._ring()
            except Exception:
                # Later calls are still due: without them, idle processes would never end.
                _LOGGER.exception("looking after idle processes has failed")

    def _is_due(self) -> bool:
        """Wait until the call is due; return False, and forget this thread, if none is due any more."""
        with self._changed:
            while self._due is not None and (remaining := self._due - time.monotonic()) > 0:
                self._changed.wait(remaining)
            is_due, self._due = self._due is not None, None
            if not is_due:
                self._thread = None
            return is_due

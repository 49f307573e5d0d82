"""Processes of a pool that are being ended, by any thread: they count until they are gone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

from beam_tfscript.worker.process import ScriptProcess


class Endings:
    """Ends processes, and counts those that have not ended yet.

    Args:
      changed: the pool's; notified when processes have ended.
      on_end: called after that.
    """

    def __init__(self, changed: threading.Condition, on_end: Callable[[], None]):
        self._changed = changed
        self._on_end = on_end
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def announce(self, *processes: ScriptProcess) -> None:
        """Count processes that `end` is about to end; called with `changed` locked, when nothing else has them."""
        self._count += len(processes)

    def end(self, *, kill: Sequence[ScriptProcess], close: Sequence[ScriptProcess] = ()) -> None:
        """End processes that were announced.

        Args:
          kill: to be ended at once.
          close: to be ended in order: their scripts may save or export something.
        """
        try:
            with contextlib.ExitStack() as stack:  # an error at one does not keep the others from being ended
                for process in close:
                    stack.callback(process.close)
                for process in kill:
                    stack.callback(process.kill)
                # All are asked before any is waited for: their exit handlers run at the same time.
                for process in close:
                    process.ask_to_close()
        finally:
            with self._changed:
                self._count -= len(kill) + len(close)
                self._changed.notify_all()
            self._on_end()

    def wait(self, timeout_s: float) -> None:
        """Wait until all processes have ended."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count, timeout_s)

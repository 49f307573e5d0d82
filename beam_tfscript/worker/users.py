"""Users of the pool's processes: DoFn instances by transform, and the interpreter of each transform."""

from __future__ import annotations

import collections
import time
import weakref
from collections.abc import Hashable

from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec


class Users:
    """DoFn instances by their transform's key, held weakly: a runner may forget to tear one down.

    Every method is called with the pool's lock held.

    Attributes:
      stopped: keys whose script has asked for the end of its feed.
    """

    def __init__(self) -> None:
        self._users: dict[str, weakref.WeakSet[object]] = collections.defaultdict(weakref.WeakSet)
        self._interpreters: dict[str, Hashable] = {}
        # When the last user of a key, or of an interpreter, went.
        self._left_at: dict[Hashable, float] = {}
        self.stopped: set[str] = set()

    def add(self, key: str, user: object) -> None:
        """Add a user of a key."""
        self._users[key].add(user)
        self._left_at.pop(key, None)

    def note_interpreter(self, spec: ProcessSpec) -> None:
        """Note the interpreter of a key's processes."""
        self._interpreters[spec.key] = spec.interpreter

    def discard(self, key: str, user: object) -> bool:
        """Forget a user; return True if it was the last of its key."""
        self._users[key].discard(user)
        if self._users[key]:
            return False
        del self._users[key]
        self._left_at[key] = time.monotonic()
        interpreter = self._interpreters.pop(key, None)
        if interpreter is not None and interpreter not in self._interpreters.values():
            self._left_at[interpreter] = time.monotonic()
        return True

    def keys(self) -> set[str]:
        """Return the keys that have users."""
        return {key for key, users in self._users.items() if users}

    def left_since(self, key: str) -> float:
        """Return when the last user of a key was discarded; 0 if it was collected before."""
        return self._left_at.get(key, 0.0)

    def unused_since(self, process: ScriptProcess) -> float | None:
        """Return when the last transform that could use an idle process lost its users; None while there is one."""
        used = self.keys()
        if process.kept_run is not None:
            # Only the transform of a kept run may use its process.
            return None if process.spec.key in used else self.left_since(process.spec.key)
        interpreter = process.spec.interpreter
        if any(self._interpreters.get(key) == interpreter for key in used):
            return None
        return self._left_at.get(interpreter, 0.0)

    def forget_left(self, *, before: float) -> None:
        """Forget users that left before a time; they count as gone for long. Their keys are stopped no more."""
        used = self.keys()
        self.stopped = {key for key in self.stopped if key in used or self.left_since(key) > before}
        self._interpreters = {key: value for key, value in self._interpreters.items() if key in used}
        self._left_at = {key: left for key, left in self._left_at.items() if left >= before}

    def clear(self) -> None:
        """Forget all users."""
        self._left_at.clear()
        self._users.clear()
        self._interpreters.clear()

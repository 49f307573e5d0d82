"""A run of the `stream` feed that goes on from bundle to bundle, and where a harness keeps its runs."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Hashable, Iterator
from typing import Any

from beam_tfscript.errors import ScriptError
from beam_tfscript.runtime import wire
from beam_tfscript.worker.feed_session import FeedSession
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.session import NeverStarted, RunRequest

# How long a run is kept whose transform has no DoFn instance in this harness. Instances are torn down when idle for a
# minute while their pipeline goes on, and for good when it has ended; nobody says which of the two it is.
ABANDONED_AFTER_S = 600.0
# How long to wait at a time for a script that has as much on its way to it as may be.
_WAIT_S = 5.0
# How often outputs are looked for that may or may not come.
_QUIET_POLLS = 5


class LiveRun:
    """One run that is fed as rows come, whose outputs are collected as they are there; owns the lease of its process.

    Args:
      key: the transform's.
      keeps_process: whether another run may have its process; a training always gets a new one.

    Attributes:
      serves: the (shard, window) whose rows it is fed.
      turn: how many bundles have dealt with it; whoever finds another number than its state says has a state from
        before, or after, what this run has seen.
      quiet_polls: how often nothing was there when it was looked for, since something was.
      unfed: rows that came when the script had asked for the end of its feed.
    """

    session: FeedSession

    def __init__(self, key: str, *, keeps_process: bool = True):
        self.key = key
        self._keeps_process = keeps_process
        self.serves: Hashable = None
        self.turn = 0
        self.quiet_polls = 0
        self.unfed = 0
        self.used_at = time.monotonic()
        self._held: list[wire.Frame] = []
        self._directory: str | None = None

    def start(self, process: ScriptProcess, request: RunRequest, directory: str) -> None:
        """Begins on a process, which may still be coming up.

        Args:
          process: leased by this run.
          request: what the run is told.
          directory: the run's own, removed by `release`.
        """
        self._directory = directory
        self.session = FeedSession(process, request)
        self.session.start()

    @property
    def process(self) -> ScriptProcess:
        """Where it runs."""
        return self.session.process

    @property
    def sent(self) -> int:
        """Rows that were sent."""
        return self.session.sent

    @property
    def acked(self) -> int:
        """How many of them are done."""
        return self.session.acked

    @property
    def unread(self) -> int:
        """Of a run that has asked for the end of its feed, the rows that it was to be given and has not read."""
        assert self.session.summary is not None
        return self.sent - self.session.summary["taken"] + self.unfed

    @property
    def has_stopped(self) -> bool:
        """Whether the script has asked for the end of its feed."""
        return self.session.summary is not None and self.session.summary["stopped"]

    @property
    def unacked(self) -> int:
        """Rows that were sent and are not done."""
        return self.session.sent - self.session.acked

    @property
    def is_done(self) -> bool:
        """Whether `main` has returned."""
        return self.session.summary is not None

    @property
    def may_give_more(self) -> bool:
        """Whether outputs may come without more rows.

        Of rows that TensorFlow pulls by itself it is not known when they are done: their outputs are looked for some
        times.
        """
        if self.unacked or self._held:
            return True
        return self.session.wanted == wire.WANT_ANY and self.quiet_polls < _QUIET_POLLS

    def explain(self, error: ScriptError | NeverStarted) -> ScriptError:
        """What an error of this run says to people."""
        return self.process.died(self.session.label) if isinstance(error, NeverStarted) else error

    def release(self, pool: Any) -> None:
        """Gives its process back to the pool: to be used again, if the run has ended well."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        pool.release(self.process, keep=self._keeps_process and self.session.completed)

    def feed(self, shard: int, count: int, payload: bytes) -> Iterator[wire.Frame]:
        """Sends rows of its shard, once there is room for them; yields what the run gives meanwhile.

        Raises:
          ScriptError: the run failed, or does not read.
        """
        while not self.session.has_room and not self.is_done:
            yield from self._receive(_WAIT_S)
        if self.is_done:
            self.unfed += count
            return
        self.quiet_polls = 0
        self.session.send_rows(count, payload)
        yield from self.collect()

    def collect(self) -> Iterator[wire.Frame]:
        """Yields what the run has given, without waiting.

        Raises:
          ScriptError: the run failed.
        """
        self.quiet_polls += 1
        while frames := list(self._receive(0.0)):
            self.quiet_polls = 0
            yield from frames

    def finish(self) -> Iterator[wire.Frame]:
        """Ends the feed and yields all that comes until `main` has returned.

        Raises:
          ScriptError: the run failed.
        """
        self.session.end_feed()
        while not self.is_done:
            yield from self._receive(None)

    def _receive(self, timeout_s: float | None) -> Iterator[wire.Frame]:
        """What is ready after the next frame; outputs of a batch are held until the batch is done.

        What a script writes of a batch before it dies would otherwise be given out, and its rows counted as lost too.
        Rows that are pulled by TensorFlow itself are acknowledged ahead of their outputs: those are not held.
        """
        while True:
            frame = self.session.receive(timeout_s)
            if frame is None:
                if self.is_done:
                    yield from self._take_held()
                return
            if frame.kind == wire.ACK:
                yield from self._take_held()
                yield frame  # so that whoever waits for room looks again
                return
            if frame.kind == wire.EXAMPLES and self.session.wanted not in (None, wire.WANT_ANY):
                self._held.append(frame)
            else:
                yield frame
                return

    def _take_held(self) -> list[wire.Frame]:
        held, self._held = self._held, []
        return held


class LiveRuns:
    """The live runs of one harness, by their identity."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Any] = {}
        self._guards: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def guard(self, name: Hashable) -> Iterator[None]:
        """Keeps others with the same name out: some runners deal with one key in two bundles at a time."""
        with self._lock:
            lock, waiting = self._guards.get(name, (threading.Lock(), 0))
            self._guards[name] = lock, waiting + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._guards.pop(name)
                if waiting > 1:
                    self._guards[name] = lock, waiting - 1

    def add(self, identity: str, run: Any) -> None:
        """Keeps a run."""
        with self._lock:
            self._runs[identity] = run

    def take_serving(self, what: Hashable) -> list[Any]:
        """Forgets, and returns, the runs that serve this; where another is to begin, no state speaks of them."""
        with self._lock:
            found = {name: run for name, run in self._runs.items() if run.serves == what}
            for name in found:
                del self._runs[name]
        return list(found.values())

    def find(self, identity: str) -> Any:
        """The run of that identity, if this harness has it."""
        with self._lock:
            run = self._runs.get(identity)
            if run is not None:
                run.used_at = time.monotonic()
            return run

    def remove(self, identity: str) -> None:
        """Forgets a run."""
        with self._lock:
            self._runs.pop(identity, None)

    def take_abandoned(self, used: set[str]) -> list[Any]:
        """Forgets, and returns, the runs of transforms that have not been in use for long.

        Args:
          used: keys of the transforms that have DoFn instances now.
        """
        oldest = time.monotonic() - ABANDONED_AFTER_S
        with self._lock:
            abandoned = {name: run for name, run in self._runs.items() if run.key not in used and run.used_at <= oldest}
            for name in abandoned:
                del self._runs[name]
        return list(abandoned.values())

    def clear(self) -> None:
        """Forgets all runs."""
        with self._lock:
            self._runs.clear()

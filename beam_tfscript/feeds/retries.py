"""The retry policy of all feeds: count a failed run, then have its work tried again, or raise its error.

One `Retries` belongs to one piece of work: the rows of a shard, of a cluster or of a window, or a bundle's next rows.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from beam_tfscript import metrics
from beam_tfscript.errors import ScriptDied, ScriptError, ScriptRaised
from beam_tfscript.feeds.failures import IdleProcessDied
from beam_tfscript.feeds.spool import OutputSpool
from beam_tfscript.runtime.transport import wire

_LOGGER = logging.getLogger(__name__)

# Errors that another attempt may not meet. Any other error would come again, such as that of a missing module.
RETRYABLE = (ScriptDied, ScriptRaised)
# The first error is kept in the runner's state, where long tracebacks would be written with each bundle.
_ERROR_CHARS = 8000


class FailureRecord(Protocol):
    """Failures at one piece of work.

    Attributes:
      failures: attempts that failed in a row, without progress between them.
      first_error: the message of the first of them; empty where there is none.
    """

    failures: int
    first_error: str


@dataclasses.dataclass
class Failures:
    """A record of failures that lives as long as its bundle; the attributes are those of `FailureRecord`."""

    failures: int = 0
    first_error: str = ""


class Retries:
    """Attempts at one piece of work.

    Args:
      max_attempts: number of attempts that may fail in a row; the error of the last one is raised.
      record: earlier failures, updated here; None for work that begins now.
      shows_first: True if the raised error quotes the first attempt's, as later ones may fail because of its remains.
      is_counted: False if runs are counted on another machine, which has other tasks of the same runs.
    """

    def __init__(
        self,
        max_attempts: int,
        record: FailureRecord | None = None,
        *,
        shows_first: bool = False,
        is_counted: bool = True,
    ):
        self._max_attempts = max_attempts
        self._record = record or Failures()
        self._shows_first = shows_first
        self._is_counted = is_counted
        self._is_restart = False

    @property
    def attempt(self) -> int:
        """Number of the present attempt, from 1."""
        return self._record.failures + 1

    @property
    def is_single(self) -> bool:
        """True if no attempt is repeated: outputs may go downstream before the run has ended."""
        return self._max_attempts == 1

    def begin_run(self) -> None:
        """Count a run that starts; one that takes the place of a run which never started is the same run."""
        metrics.add("runs", self._is_counted and not self._is_restart)
        self._is_restart = False

    def note_progress(self) -> None:
        """Count failures anew: the work is smaller than it was."""
        self._record.failures, self._record.first_error = 0, ""

    def fail(
        self,
        error: ScriptError,
        next_step: str,
        *,
        is_free: bool = False,
        is_last: bool = False,
        last_step: str | None = None,
    ) -> bool:
        """Count a failed run, and decide about its work.

        Args:
          error: the run's error.
          next_step: the log's sentence about the work that is tried again.
          is_free: True if the failure costs no attempt, as the work did not cause it.
          is_last: True if nothing could come of another attempt.
          last_step: the log's sentence about work that is given up after the last attempt; None raises the error.

        Returns:
          True if the work is to be tried again; False if it is given up.

        Raises:
          ScriptError: `error`, if no attempt is left, or if another one would fail in the same way.
        """
        if isinstance(error, IdleProcessDied):
            # Nothing of the run has happened. A loop is not possible: each time, an idle process is gone.
            self._is_restart = True
            _LOGGER.warning("%s", error)
            return True
        metrics.add("runs_failed", self._is_counted)
        metrics.add("process_deaths", self._is_counted and isinstance(error, ScriptDied))
        if not isinstance(error, RETRYABLE):
            raise error
        record = self._record
        record.failures += not is_free
        record.first_error = record.first_error or str(error)[:_ERROR_CHARS]
        if record.failures < self._max_attempts and not is_last:
            _LOGGER.warning("%s\n%s", error, next_step)
            return True
        if last_step is None:
            raise self._with_first(error)
        _LOGGER.warning("%s\n%s", error, last_step)
        self.note_progress()
        return False

    def _with_first(self, error: ScriptError) -> ScriptError:
        first, failures = self._record.first_error, self._record.failures
        if self._shows_first and failures > 1 and first != str(error)[:_ERROR_CHARS]:
            error.args = (
                f"{first}\nThat was the first of {failures} attempts without progress. The last one: {error}",
            )
        return error


def repeat_whole(
    run: Callable[[int], Iterator[wire.Frame]], retries: Retries, spool: OutputSpool, next_step: str
) -> Generator[wire.Frame, None, None]:
    """Run whole attempts until one ends well, and yield the frames of that one.

    Frames are yielded as they come where the first failure is the last. Else they wait in a file until the run has
    ended well: each output goes downstream once.

    Args:
      run: makes one attempt of that number.
      retries: the attempts.
      spool: the file of frames that wait.
      next_step: the log's sentence about a run that is repeated.

    Raises:
      ScriptError: the last attempt failed.
    """
    while True:
        try:
            retries.begin_run()
            if retries.is_single:
                # A restart cannot double frames: a run that never started has sent none.
                yield from run(retries.attempt)
                return
            spool.fill(run(retries.attempt))
            break
        except ScriptError as error:
            retries.fail(error, next_step)
    yield from spool.frames()


__all__ = ["RETRYABLE", "FailureRecord", "Failures", "Retries", "repeat_whole"]

"""What the DoFns share: the script staged on this worker, a place in the pool, outputs decoded and counted."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_tfscript import metrics
from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.decode_output import OutputDecoder
from beam_tfscript.dofns.side_files import side_input_files
from beam_tfscript.errors import TFScriptError
from beam_tfscript.feeds.run_requests import make_spec
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.files.staging import stage_files, stage_runtime
from beam_tfscript.options.display import display_items
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.python_env.environment import find_interpreter
from beam_tfscript.worker.pool import ProcessPool, get_pool

_staging_lock = threading.Lock()


class UsesScript(beam.DoFn):
    """A DoFn that needs script processes: one of their users for as long as it is set up."""

    _pool: ProcessPool | None = None

    def __init__(self, options: ScriptOptions):
        self._options = options

    def setup(self) -> None:
        """Asks the harness' pool for a process, whose start then overlaps with what comes first."""
        self._pool = get_pool()
        self._pool.register(self._options.key, self)
        try:
            scratch = self._pool.scratch()
            # One copy for all transforms: processes that are started alike are interchangeable.
            runtime = stage_once(stage_runtime, os.path.join(scratch, "shared"), "runtime")
            self._stage(os.path.join(scratch, f"script-{self._options.key}"))
            self._spec = make_spec(self._options, find_interpreter(self._options.python_env), runtime)
            self._pool.warm(self._spec)
        except TFScriptError:
            # Beam does not tear down what it could not set up.
            self.teardown()
            raise

    def teardown(self) -> None:
        """Ends what this instance still leases; the last instance ends the idle processes too."""
        if self._pool is not None:
            self._pool.unregister(self._options.key, self)
            self._pool = None

    def _stage(self, directory: str) -> None:
        """Stages what else is needed on this worker."""


class RunsScript(UsesScript):
    """A DoFn that runs the script and gives out what it writes.

    Args:
      options: the transform's arguments.
      bad: what to do with outputs that do not fit; None fails the bundle.
    """

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None):
        super().__init__(options)
        self._bad = bad

    def setup(self) -> None:
        """Makes what runs are made of, and what decodes their outputs."""
        super().setup()
        assert self._pool is not None
        self._staged = StagedScript(self._options, self._spec, self._pool, self._files)
        schema = self._options.output_schema
        self._outputs = None if schema is None else OutputDecoder(schema, self._options.output_as)

    def display_data(self) -> dict[str, Any]:
        """The transform's arguments: of a composite's display data, services keep only that of its steps."""
        return display_items(self._options)

    def _stage(self, directory: str) -> None:
        self._files = stage_once(
            lambda path: stage_files(self._options.files, path), directory, "files", is_read_only=True
        )

    def _side_inputs(self, window: Any, sides: Any) -> AbstractContextManager[dict[str, Any]]:
        """The window's side inputs, for a run's request; their files are there during the block."""
        return side_input_files(self._options, self._staged.pool.scratch(), bounds_of(window), sides)

    def _decode(self, examples: list[bytes]) -> Iterable[Any]:
        """The output elements of some Examples that the script wrote, and the bad records."""
        assert self._outputs is not None
        metrics.add("bytes_out", sum(map(len, examples)))
        if self._bad is None:
            metrics.add("rows_out", len(examples))
            return self._outputs.decode(examples)
        outputs, bad = self._outputs.decode_good(examples)
        metrics.add("rows_out", len(examples) - len(bad))
        metrics.add("rows_bad", len(bad))
        return itertools.chain(outputs, [self._bad.record(example, error) for example, error in bad])


def stage_once(stage: Callable[[str], None], directory: str, name: str, *, is_read_only: bool = False) -> str:
    """Calls `stage` for a directory of that name, the first time in this harness; returns where it is.

    Args:
      stage: makes the directory whose path it is given.
      directory: where it is kept.
      name: its name there.
      is_read_only: whether nothing may be added to it afterwards.
    """
    target = os.path.join(directory, name)
    with _staging_lock:
        if not os.path.isdir(target):
            # A half-staged directory is never taken for a whole one.
            with tempfile.TemporaryDirectory(dir=os.path.dirname(directory)) as parent:
                stage(os.path.join(parent, name))
                os.makedirs(directory, exist_ok=True)
                os.rename(os.path.join(parent, name), target)
                if is_read_only:
                    os.chmod(target, 0o555)  # not before: a directory that cannot be written cannot be moved
    return target


def bounds_of(window: Any) -> tuple[float, float] | None:
    """The (start, end) of a window in seconds; None of the global one."""
    if isinstance(window, GlobalWindow):
        return None
    start = getattr(window, "start", window.end)
    return start.micros / 1e6, window.end.micros / 1e6


def in_window(output: Any, window: Any, timestamp: Any) -> Any:
    """The output in its window: of a timestamp alone, Beam would make all windows that it is in."""
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, WindowedValue(output.value, timestamp, (window,)))
    return WindowedValue(output, timestamp, (window,))

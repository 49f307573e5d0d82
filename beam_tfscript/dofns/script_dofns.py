"""Base classes of the DoFns: they stage the script on the worker, use the pool, and decode and count outputs."""

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
        """Ask the harness's pool for a process, whose start then overlaps with the first rows' way here."""
        self._pool = get_pool()
        self._pool.register(self._options.key, self)
        try:
            scratch = self._pool.scratch()
            # One copy for all transforms: only processes with the same runtime are interchangeable.
            runtime = stage_once(stage_runtime, os.path.join(scratch, "shared"), "runtime")
            self._stage(os.path.join(scratch, f"script-{self._options.key}"))
            self._spec = make_spec(self._options, find_interpreter(self._options.python_env), runtime)
            self._pool.warm(self._spec)
        except TFScriptError:
            # Beam tears down no DoFn whose setup failed.
            self.teardown()
            raise

    def teardown(self) -> None:
        """End processes that this instance still leases; the last instance ends the idle ones too."""
        if self._pool is not None:
            self._pool.unregister(self._options.key, self)
            self._pool = None

    def _stage(self, directory: str) -> None:
        """Stage further files on this worker."""


class RunsScript(UsesScript):
    """A DoFn that runs the script and gives out its outputs.

    Args:
      options: the transform's arguments.
      bad: the dead letters for outputs that do not fit; None fails the bundle.
    """

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None):
        super().__init__(options)
        self._bad = bad

    def setup(self) -> None:
        """Stage the script, and make the decoder of its outputs."""
        super().setup()
        assert self._pool is not None
        self._staged = StagedScript(self._options, self._spec, self._pool, self._files)
        schema = self._options.output_schema
        self._outputs = None if schema is None else OutputDecoder(schema, self._options.output_as)

    def display_data(self) -> dict[str, Any]:
        """Return the transform's arguments: services drop a composite's display data, and keep its steps'."""
        return display_items(self._options)

    def _stage(self, directory: str) -> None:
        self._files = stage_once(
            lambda path: stage_files(self._options.files, path), directory, "files", is_read_only=True
        )

    def _side_inputs(self, window: Any, side_chunks: Any) -> AbstractContextManager[dict[str, Any]]:
        """Return a context with the window's side inputs, for a run's request; their files are removed at its end."""
        return side_input_files(self._options, self._staged.pool.scratch(), bounds_of(window), side_chunks)

    def _decode(self, examples: list[bytes]) -> Iterable[Any]:
        """Return the output elements of some Examples that the script wrote, and the bad records."""
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
    """Call `stage` for a directory of that name, the first time in this harness; return the directory.

    Args:
      stage: makes the directory whose path it is given.
      directory: the directory's parent.
      name: its name there.
      is_read_only: True if nothing may be added to it afterwards.
    """
    target = os.path.join(directory, name)
    with _staging_lock:
        if not os.path.isdir(target):
            # Renamed when it is whole: a half-staged directory is never used.
            with tempfile.TemporaryDirectory(dir=os.path.dirname(directory)) as parent:
                stage(os.path.join(parent, name))
                os.makedirs(directory, exist_ok=True)
                os.rename(os.path.join(parent, name), target)
                if is_read_only:
                    os.chmod(target, 0o555)  # not before: a directory that cannot be written cannot be moved
    return target


def bounds_of(window: Any) -> tuple[float, float] | None:
    """Return the (start, end) of a window in seconds; None for the global window."""
    if isinstance(window, GlobalWindow):
        return None
    start = getattr(window, "start", window.end)
    return start.micros / 1e6, window.end.micros / 1e6


def in_window(output: Any, window: Any, timestamp: Any) -> Any:
    """Return the output in its window. Set the window explicitly: given only a timestamp, Beam reassigns it."""
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, WindowedValue(output.value, timestamp, (window,)))
    return WindowedValue(output, timestamp, (window,))

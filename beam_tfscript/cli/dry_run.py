"""A script on some rows, without a pipeline: the transform's own DoFns, called in the order in which a runner would.

In come the options and encoder of a transform and the rows. Out goes, bit by bit, an `Outcome`: what is there when the
script fails can still be shown.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pyarrow as pa
from apache_beam.metrics.execution import MetricsContainer
from apache_beam.runners.worker import statesampler
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.counters import CounterFactory
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.dofns.chunk_rows import ChunkRows
from beam_tfscript.dofns.run_bundles import RunBundles
from beam_tfscript.dofns.script_dofns import UsesScript
from beam_tfscript.feeds.run_requests import process_limit
from beam_tfscript.metrics import NAMESPACE, SCRIPT_NAMESPACE
from beam_tfscript.models.trained_model import TrainedModel
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.options.train_options import TrainOptions
from beam_tfscript.transforms.stages import run_of_group
from beam_tfscript.worker.pool import get_pool

_WINDOW = GlobalWindow()
_Rows: TypeAlias = "list[bytes] | pa.Table"


@dataclasses.dataclass
class Outcome:
    """What a dry run has come to so far.

    Attributes:
      python: the script's interpreter, and `versions` of it and of its TensorFlow; empty until it is up.
      tensorflow_error: why there is no TensorFlow; empty where there is.
      start_s: seconds until the interpreter was up and TensorFlow imported.
      run_s: seconds from the first row to the last output.
      rows: what the script wrote.
      model: what it trained.
      counted: what it counted by itself.
      own: what the package counted.
    """

    python: str = ""
    versions: str = ""
    tensorflow_error: str = ""
    start_s: float = 0.0
    run_s: float = 0.0
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    model: TrainedModel | None = None
    counted: dict[str, Any] = dataclasses.field(default_factory=dict)
    own: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def load_s(self) -> float | None:
        """Seconds of importing the script, of the slowest of its tasks; None where none got as far as main."""
        return self.own["load_ms"].max / 1000 if "load_ms" in self.own else None

    @property
    def reported(self) -> dict[str, float]:
        """The last value of each name that a training reported."""
        return {} if self.model is None else json.loads(self.model.metrics)


def run_by_hand(
    options: ScriptOptions,
    encoder: RowEncoder,
    rows: _Rows,
    outcome: Outcome,
    *,
    train_dir: str | None,
    on_start: Callable[[], None],
) -> None:
    """Runs the script over rows; ends all processes before it returns.

    Args:
      options: the transform's arguments, with a feed, and outputs as dicts.
      encoder: what encodes the rows.
      rows: serialized Examples, or Arrow data.
      outcome: what is filled in.
      train_dir: a directory, for a training.
      on_start: called when the script's interpreter is up.

    Raises:
      TFScriptError: the script or its environment failed, or rows do not fit.
    """
    try:
        # The process is started first: an environment that does not come up is the first thing to know.
        with _metrics(outcome), _set_up(_Starter(options)) as starter:
            starter.start(outcome)
            on_start()
            begin = time.monotonic()
            try:
                for value in _outputs(options, encoder, rows, train_dir):
                    _take(value, outcome)
            finally:
                outcome.run_s = time.monotonic() - begin
    finally:
        # Nothing else runs in this process; what scripts still have to say comes out before this returns.
        get_pool().shutdown()


class _Starter(UsesScript):
    """Starts the process that the run then gets."""

    def start(self, outcome: Outcome) -> None:
        """Waits for the interpreter; notes what it is."""
        assert self._pool is not None
        outcome.python = self._spec.python
        process = self._pool.acquire(self._spec, max_processes=process_limit(self._options), owner=self)
        is_up = False
        try:
            process.wait_ready()
            is_up = True
        finally:
            self._pool.release(process, keep=is_up)
        assert process.ready is not None
        outcome.versions = f"Python {process.ready['python']}, TensorFlow {process.ready['tensorflow'] or 'missing'}"
        outcome.tensorflow_error = (process.ready["tensorflow_error"] or "").strip()
        outcome.start_s = process.start_s


def _outputs(options: ScriptOptions, encoder: RowEncoder, rows: _Rows, train_dir: str | None) -> Iterator[Any]:
    """What the last stage of the transform gives."""
    if options.feed == "bundles":
        yield from _run_bundle(options, encoder, rows)
        return
    groups: dict[int, list[Any]] = {}
    for key, chunk in _chunk(options, encoder, rows):
        groups.setdefault(key, []).append(chunk)
    with _set_up(_last_stage(options, train_dir)) as dofn:
        for group in sorted(groups.items()):
            yield from dofn.process(group, window=_WINDOW)


def _last_stage(options: ScriptOptions, train_dir: str | None) -> Any:
    train = None
    if train_dir is not None:
        train = TrainOptions(os.path.join(train_dir, "models"), None, options.script.name)
    return run_of_group(options, None, train, stamp=False)


def _chunk(options: ScriptOptions, encoder: RowEncoder, rows: _Rows) -> Iterator[tuple[int, Any]]:
    """The stage before the shuffle."""
    with _set_up(ChunkRows(options, encoder, None)) as dofn:
        dofn.start_bundle()
        for row in rows if isinstance(rows, list) else [rows]:
            yield from map(_value_of, dofn.process(row))
        yield from map(_value_of, dofn.finish_bundle())


def _run_bundle(options: ScriptOptions, encoder: RowEncoder, rows: _Rows) -> Iterator[Any]:
    with _set_up(RunBundles(options, encoder, None)) as dofn:
        dofn.start_bundle()
        for row in rows if isinstance(rows, list) else [rows]:
            yield from dofn.process(row, _placed(row))
        yield from dofn.finish_bundle()


def _take(value: Any, outcome: Outcome) -> None:
    value = _value_of(value)
    if isinstance(value, TrainedModel):
        outcome.model = value
    else:
        outcome.rows.append(value)


def _placed(value: Any) -> WindowedValue:
    return WindowedValue(value, MIN_TIMESTAMP, (_WINDOW,))


def _value_of(output: Any) -> Any:
    """An output without its place in event time."""
    return output.value if hasattr(output, "windows") or hasattr(output, "timestamp") else output


@contextlib.contextmanager
def _set_up(dofn: Any) -> Iterator[Any]:
    dofn.setup()
    try:
        yield dofn
    finally:
        dofn.teardown()


@contextlib.contextmanager
def _metrics(outcome: Outcome) -> Iterator[None]:
    """Collects what is counted meanwhile: outside a bundle, Beam's metrics go nowhere."""
    container = MetricsContainer("check")
    sampler = statesampler.StateSampler("check", CounterFactory())
    before = statesampler.get_current_tracker()
    statesampler.set_current_tracker(sampler)
    try:
        with sampler.scoped_state("check", "process", metrics_container=container):
            yield
    finally:
        statesampler.set_current_tracker(before)
        found = container.get_cumulative()
        for key, value in (*found.counters.items(), *found.distributions.items()):
            {SCRIPT_NAMESPACE: outcome.counted, NAMESPACE: outcome.own}[key.metric.namespace][key.metric.name] = value

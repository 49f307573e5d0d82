"""Dry run: a transform's own DoFns over some rows, called in a runner's order, without a pipeline.

In come a transform's options, its encoder and rows. Out goes a `DryRunResult`, filled in step by step: after a
failure it holds the results up to then.
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
class DryRunResult:
    """Result of a dry run so far.

    Attributes:
      interpreter: path of the script's interpreter; empty until the interpreter is up.
      versions: versions of that Python and its TensorFlow, as text; empty until the interpreter is up.
      tensorflow_error: traceback of a failed import of TensorFlow; empty if TensorFlow was imported.
      start_s: seconds until the interpreter was up and had imported TensorFlow.
      run_s: seconds from the first row to the last output.
      rows: rows that the script wrote, as dicts.
      model: the model that a training made; None until then.
      script_metrics: counters and distributions of the script, by name.
      package_metrics: counters and distributions of this package, by name.
    """

    interpreter: str = ""
    versions: str = ""
    tensorflow_error: str = ""
    start_s: float = 0.0
    run_s: float = 0.0
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    model: TrainedModel | None = None
    script_metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    package_metrics: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def load_s(self) -> float | None:
        """Seconds that the slowest task took to import the script; None if no task reached its entry function."""
        return self.package_metrics["load_ms"].max / 1000 if "load_ms" in self.package_metrics else None

    @property
    def reported(self) -> dict[str, float]:
        """The last value of each name that a training gave to `config.report`."""
        return {} if self.model is None else json.loads(self.model.metrics)


def dry_run(
    options: ScriptOptions,
    encoder: RowEncoder,
    rows: _Rows,
    result: DryRunResult,
    *,
    train_dir: str | None,
    on_start: Callable[[], None],
) -> None:
    """Run the script over rows, and end all its processes.

    Args:
      options: the transform's arguments, with a feed, and outputs as dicts.
      encoder: encoder of the rows.
      rows: serialized Examples, or Arrow data.
      result: filled in while the script runs.
      train_dir: directory for the model of a training; None for a script that trains nothing.
      on_start: called once the script's interpreter is up.

    Raises:
      TFScriptError: the script or its environment failed, or rows do not fit.
    """
    try:
        with _collect_metrics(result), _set_up(_StartInterpreter(options)) as first:
            # Before any row is encoded: a broken environment should be the first error that is shown.
            first.start(result)
            on_start()
            begin = time.monotonic()
            try:
                for output in _run_stages(options, encoder, rows, train_dir):
                    _add_output(output, result)
            finally:
                result.run_s = time.monotonic() - begin
    finally:
        # Nothing else in this process uses the pool. Its end also flushes the last lines that scripts printed.
        get_pool().shutdown()


class _StartInterpreter(UsesScript):
    """Starts the script's process, which the run then leases."""

    def start(self, result: DryRunResult) -> None:
        """Wait until the interpreter is up, and note its versions."""
        assert self._pool is not None
        result.interpreter = self._spec.python
        with self._pool.lease(self._spec, max_processes=process_limit(self._options), user=self) as lease:
            lease.keep()
            ready, result.start_s = lease.process.ready, lease.process.start_s
        assert ready is not None
        result.versions = f"Python {ready['python']}, TensorFlow {ready['tensorflow'] or 'missing'}"
        result.tensorflow_error = (ready["tensorflow_error"] or "").strip()


def _run_stages(options: ScriptOptions, encoder: RowEncoder, rows: _Rows, train_dir: str | None) -> Iterator[Any]:
    """Yield the outputs of the transform's last stage."""
    if options.feed == "bundles":
        yield from _run_bundle(options, encoder, rows)
        return
    if options.cluster is not None:
        # There is one machine here.
        options = dataclasses.replace(options, cluster=dataclasses.replace(options.cluster, is_spread=False))
    groups: dict[int, list[Any]] = {}
    for key, chunk in _chunk_rows(options, encoder, rows):
        groups.setdefault(key, []).append(chunk)
    with _set_up(_run_of_group(options, train_dir)) as dofn:
        for group in sorted(groups.items()):
            yield from dofn.process(group, window=_WINDOW)


def _run_of_group(options: ScriptOptions, train_dir: str | None) -> Any:
    train = None
    if train_dir is not None:
        train = TrainOptions(os.path.join(train_dir, "models"), None, options.script.name)
    return run_of_group(options, None, train, stamp=False)


def _chunk_rows(options: ScriptOptions, encoder: RowEncoder, rows: _Rows) -> Iterator[tuple[int, Any]]:
    """Yield the (key, chunk) pairs of the stage before the shuffle."""
    with _set_up(ChunkRows(options, encoder, None)) as dofn:
        dofn.start_bundle()
        for row in _elements(rows):
            yield from map(_value_of, dofn.process(row))
        yield from map(_value_of, dofn.finish_bundle())


def _run_bundle(options: ScriptOptions, encoder: RowEncoder, rows: _Rows) -> Iterator[Any]:
    """Yield the outputs of the only stage of `feed="bundles"`."""
    with _set_up(RunBundles(options, encoder, None)) as dofn:
        dofn.start_bundle()
        for row in _elements(rows):
            yield from dofn.process(row, WindowedValue(row, MIN_TIMESTAMP, (_WINDOW,)))
        yield from dofn.finish_bundle()


def _elements(rows: _Rows) -> list[Any]:
    """Return the elements of the input PCollection: the Examples, or the Arrow table as one element."""
    return rows if isinstance(rows, list) else [rows]


def _add_output(output: Any, result: DryRunResult) -> None:
    value = _value_of(output)
    if isinstance(value, TrainedModel):
        result.model = value
    else:
        result.rows.append(value)


def _value_of(output: Any) -> Any:
    """Return an output without its windows and timestamp."""
    return output.value if hasattr(output, "windows") or hasattr(output, "timestamp") else output


@contextlib.contextmanager
def _set_up(dofn: Any) -> Iterator[Any]:
    """Set up a DoFn for the block, and tear it down at the end."""
    dofn.setup()
    try:
        yield dofn
    finally:
        dofn.teardown()


@contextlib.contextmanager
def _collect_metrics(result: DryRunResult) -> Iterator[None]:
    """Collect the metrics of the block: Beam drops metrics that are updated outside a bundle."""
    container = MetricsContainer("check")
    sampler = statesampler.StateSampler("check", CounterFactory())
    before = statesampler.get_current_tracker()
    statesampler.set_current_tracker(sampler)
    try:
        with sampler.scoped_state("check", "process", metrics_container=container):
            yield
    finally:
        statesampler.set_current_tracker(before)
        metrics = container.get_cumulative()
        by_namespace = {SCRIPT_NAMESPACE: result.script_metrics, NAMESPACE: result.package_metrics}
        for key, value in (*metrics.counters.items(), *metrics.distributions.items()):
            by_namespace[key.metric.namespace][key.metric.name] = value

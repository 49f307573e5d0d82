"""Limits of engines that differ from Beam's model: avoided, or refused while the pipeline is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DebugOptions
from apache_beam.pipeline import AppliedPTransform
from apache_beam.runners.common import DoFnSignature
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner, SwitchingDirectRunner
from apache_beam.runners.portability.spark_runner import SparkRunner

from beam_tfscript.errors import ArgumentError
from beam_tfscript.runtime.docs import page


def check_engine(rows: beam.PCollection, *, feed: str, label: str) -> None:
    """Refuse unbounded input that the pipeline's runner cannot serve.

    Args:
      rows: the input.
      feed: the feed, resolved.
      label: the transform's label, for errors.

    Raises:
      ArgumentError: the runner cannot run the pipeline; the message names runners and feeds that can.
    """
    if rows.is_bounded:
        return
    if _is_spark(rows.pipeline.runner):
        _refuse_on_spark(rows, label)
    if feed == "stream" and _is_direct(rows.pipeline.runner):
        _check_direct(rows, label)


def _refuse_on_spark(rows: beam.PCollection, label: str) -> None:
    """Refuse every feed: Beam's portable Spark runner has no unbounded sources, and no state from bundle to bundle.

    A source that defers its remainder fails the job: "The ActiveBundle does not have a registered bundle checkpoint
    handler" (seen with Beam 2.62). State and timers are those of one micro-batch, and not of one key. A job with
    `--streaming` never ends. Beam's issues are https://github.com/apache/beam/issues/19468 and
    https://github.com/apache/beam/issues/20396.
    """
    sources = [node.full_label for node in _upstream(rows) if _is_unbounded_source(node.transform)]
    origin = f" from {sources[0]}" if sources else ""
    raise ArgumentError(
        f"{label}: the input is unbounded{origin}, and Beam's SparkRunner runs only bounded input: it cannot resume a "
        "source that waits for more, and keeps no state from one micro-batch to the next. Read a bounded source, or "
        "run the pipeline on Flink (--runner=FlinkRunner), Dataflow or Prism (--runner=PrismRunner). More: "
        + page("submit")
    )


def _check_direct(rows: beam.PCollection, label: str) -> None:
    """Refuse a stream from a source that the DirectRunner cannot run beside it.

    `stream` needs timers of processing time. The DirectRunner has those only in its bundle-based engine. That engine
    fails at sources that wait for the clock, such as `PeriodicImpulse`: "OffsetRestrictionTracker is not done", or
    with `--streaming` "was not replaced as expected" (both seen with Beam 2.77).
    """
    for node in _upstream(rows):
        if _is_unbounded_source(node.transform):
            raise ArgumentError(
                f"{label}: the rows come from {node.full_label}, a source that waits for the clock, and Beam's "
                'DirectRunner cannot run such a source together with feed="stream". Run the pipeline on Prism '
                '(--runner=PrismRunner), or give feed="bundles". More: ' + page("submit")
            )


def keep_keys_together(pipeline: beam.Pipeline) -> None:
    """Ask Prism not to split bundles, as its splits lose state.

    Prism splits slow bundles, also those of a stage with state, and runs the rest beside the first part. Then rows of
    one key are in two bundles at a time. Each bundle has the earlier state, and the state of one of them is lost with
    the rows in it. `splitBundle` frees a key that the bundle still works on, in
    https://github.com/apache/beam/blob/v2.77.0/sdks/go/pkg/beam/runners/prism/internal/engine/elementmanager.go.
    Other runners ignore the experiment.
    """
    pipeline.options.view_as(DebugOptions).add_experiment("prism_disable_sdf_split")


def _is_direct(runner: Any) -> bool:
    return isinstance(_unwrapped(runner), (SwitchingDirectRunner, BundleBasedDirectRunner))


def _is_spark(runner: Any) -> bool:
    return isinstance(_unwrapped(runner), SparkRunner)


def _unwrapped(runner: Any) -> Any:
    """Return the runner that runs the pipeline: in a notebook, the interactive runner wraps it."""
    return getattr(runner, "_underlying_runner", runner)


def _upstream(rows: beam.PCollection) -> Iterator[AppliedPTransform]:
    """Yield each transform upstream of a PCollection, composites and their parts."""
    pending = [rows.producer]
    seen = set()
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        pending.extend(node.parts)
        pending.extend(pcoll.producer for pcoll in node.inputs if isinstance(pcoll, beam.PCollection))


def _is_unbounded_source(transform: Any) -> bool:
    if not isinstance(transform, beam.ParDo):
        return False
    signature = DoFnSignature(transform.dofn)
    return signature.is_splittable_dofn() and signature.is_unbounded_per_element()

"""The stages that the transform expands to, for each feed and kind of input."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, PBegin, PCollection
from apache_beam.transforms.window import GlobalWindows, TimestampCombiner

from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.chunk_rows import ChunkRows, ChunkWindowedRows
from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.run_bundles import RunBundles
from beam_tfscript.dofns.run_cluster import RunCluster, TrainModel
from beam_tfscript.dofns.run_dataset import RunShard
from beam_tfscript.dofns.run_stream import StreamGroups, StreamShards
from beam_tfscript.dofns.script_dofns import RunsScript
from beam_tfscript.dofns.train_stream import StreamGroupTraining, StreamTraining
from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.artifacts import attach_files
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.options.train_options import TrainOptions
from beam_tfscript.transforms.engine_limits import check_engine, keep_keys_together
from beam_tfscript.transforms.input_plan import plan_input, reader_of
from beam_tfscript.transforms.side_inputs import plan_side_inputs

_KEYED = beam.typehints.Tuple[int, beam.typehints.Tuple[int, int, bytes]]
_SHARD = beam.typehints.Tuple[int, beam.typehints.Tuple[int, bytes]]


def run_script(
    rows: Any,
    options: ScriptOptions,
    side_inputs: Mapping[str, tuple[Any, Schema | None]],
    *,
    label: str,
    bad: DeadLetters | None = None,
    train: TrainOptions | None = None,
) -> tuple[Any, PCollection | None]:
    """All stages of a transform.

    Args:
      rows: the input; a pipeline for runs without rows.
      options: the transform's arguments.
      side_inputs: what `check_side_inputs` returned.
      label: the transform's, for errors.
      bad: what to do with rows and outputs that do not fit; None fails the bundle.
      train: what is done with the model of a training; None of runs that train nothing.

    Returns:
      (the outputs, the bad rows of the stage before the runs).

    Raises:
      ArgumentError, SchemaError: the input cannot be used.
    """
    # Each application is of its own: one transform object may be applied twice.
    options = dataclasses.replace(options, key=uuid.uuid4().hex)
    options = _attach_script(options, rows.pipeline)
    options, sides = plan_side_inputs(options, side_inputs, label)
    if isinstance(rows, (PBegin, beam.Pipeline)):
        return _run_without_rows(rows, options, bad, train, sides), None
    options, encoder = plan_input(rows.element_type, _for_input(rows, options, label), reader=reader_of(rows))
    if options.feed == "bundles":
        return _run_bundles(rows, options, encoder, bad), None
    return _run_shards(rows, options, encoder, bad, train, sides)


def _attach_script(options: ScriptOptions, pipeline: beam.Pipeline) -> ScriptOptions:
    """The options with large local files made artifacts of the job, where workers are other machines."""
    env = options.python_env
    if env.archive is not None:
        env = dataclasses.replace(env, archive=attach_files([env.archive], pipeline)[0])
    return dataclasses.replace(options, files=attach_files(options.files, pipeline), python_env=env)


def _for_input(rows: PCollection, options: ScriptOptions, label: str) -> ScriptOptions:
    """The options with the feed and its defaults; refuses a feed that cannot be used on this input."""
    feed = options.feed or ("dataset" if rows.is_bounded else "stream")
    window_fn = rows.windowing.windowfn
    if feed == "stream" and window_fn.is_merging():
        raise ArgumentError(
            f'{label}: the input is in {type(window_fn).__name__}, whose windows merge, and in feed="stream" a run '
            "that has begun cannot become part of another: use fixed or sliding windows, or "
            'feed="dataset", whose runs begin when the windows are merged.'
        )
    check_engine(rows, feed=feed, label=label)
    return options.for_feed(feed, has_end=not isinstance(window_fn, GlobalWindows))


def _run_bundles(rows: PCollection, options: ScriptOptions, encoder: RowEncoder, bad: DeadLetters | None) -> Any:
    """One stage, bundle by bundle."""
    return rows | "Run" >> _par_do(RunBundles(options, encoder, bad), bad)


def _run_shards(
    rows: PCollection,
    options: ScriptOptions,
    encoder: RowEncoder,
    bad: DeadLetters | None,
    train: TrainOptions | None,
    sides: AsIter | None,
) -> tuple[Any, PCollection | None]:
    """Chunks, and a run for each shard, or cluster, and window of them; gives the outputs and the bad rows."""
    is_streaming = options.feed == "stream" and not rows.is_bounded
    dofn: type[ChunkRows] = ChunkWindowedRows
    if isinstance(rows.windowing.windowfn, GlobalWindows) and not is_streaming:
        dofn = ChunkRows
    result = rows | "Chunk" >> _par_do(dofn(options, encoder, bad), bad)
    chunks = result if bad is None else result[bad.main_tag]
    chunks.element_type = _SHARD if options.feed == "dataset" and options.cluster is None else _KEYED
    bad_rows = None if bad is None else result[bad.dead_letter_tag]
    if is_streaming and sides is not None:
        raise ArgumentError(
            'side_inputs are not for feed="stream" on unbounded input, where a run may begin at a timer, at which '
            'runners give none: use feed="dataset", or read what changes slowly in the script.'
        )
    if is_streaming:
        keep_keys_together(rows.pipeline)
        stream = StreamShards(options, bad) if train is None else StreamTraining(options, bad, train)
        return chunks | "Run" >> _par_do(stream, bad), bad_rows
    return _run_groups(chunks, options, bad, train, sides), bad_rows


def _run_without_rows(
    pipeline: Any,
    options: ScriptOptions,
    bad: DeadLetters | None,
    train: TrainOptions | None,
    sides: AsIter | None,
) -> Any:
    """A run for each shard, with no rows; refuses a feed that makes no runs where there are none."""
    if options.feed == "bundles":
        raise ArgumentError('feed="bundles" needs an input: without rows there is no bundle. Leave feed out.')
    options = options.for_feed(options.feed or "dataset")
    shards: list[Any] = [(shard, (0, b"")) for shard in range(options.num_workers)]
    if options.feed == "stream" or options.cluster is not None:
        shards = [(0 if options.cluster else shard, (shard, *chunk)) for shard, chunk in shards]
    chunks = pipeline | "Shards" >> beam.Create(shards, reshuffle=False)
    chunks.element_type = _SHARD if options.feed == "dataset" and options.cluster is None else _KEYED
    return _run_groups(chunks, options, bad, train, sides)


def _run_groups(
    chunks: PCollection,
    options: ScriptOptions,
    bad: DeadLetters | None,
    train: TrainOptions | None,
    sides: AsIter | None,
) -> Any:
    stamp = chunks.windowing.timestamp_combiner != TimestampCombiner.OUTPUT_AT_EOW
    grouped = chunks | "GroupByShard" >> beam.GroupByKey()
    return grouped | "Run" >> _par_do(run_of_group(options, bad, train, stamp=stamp), bad, sides)


def run_of_group(
    options: ScriptOptions, bad: DeadLetters | None, train: TrainOptions | None, *, stamp: bool
) -> RunsScript:
    """The stage behind the shuffle.

    Args:
      options: the transform's arguments.
      bad: what to do with outputs that do not fit.
      train: what is done with the model of a training; None of runs that train nothing.
      stamp: whether outputs must be given the window's end as timestamp.
    """
    if options.feed == "stream":
        return StreamGroups(options, bad) if train is None else StreamGroupTraining(options, bad, train)
    if train is not None:
        return TrainModel(options, bad, train)
    return RunShard(options, bad, stamp=stamp) if options.cluster is None else RunCluster(options, bad)


def _par_do(dofn: beam.DoFn, bad: DeadLetters | None, sides: AsIter | None = None) -> beam.PTransform:
    par_do = beam.ParDo(dofn) if sides is None else beam.ParDo(dofn, sides=sides)
    return par_do if bad is None else par_do.with_outputs(bad.dead_letter_tag, main=bad.main_tag)

"""Stages that the transforms expand to, for each feed and kind of input."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.pvalue import AsIter, PBegin, PCollection
from apache_beam.transforms.window import GlobalWindows, TimestampCombiner

from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.chunk_rows import ChunkRows, ChunkWindowedRows
from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.run_bundles import RunBundles
from beam_tfscript.dofns.run_cluster import RunCluster, RunShares
from beam_tfscript.dofns.run_dataset import RunShard
from beam_tfscript.dofns.run_stream import StreamGroups, StreamShards
from beam_tfscript.dofns.script_dofns import RunsScript
from beam_tfscript.dofns.spool_removal import SPOOLED_TAG, RemoveSpool
from beam_tfscript.dofns.spread_tasks import SpreadTasks
from beam_tfscript.dofns.train_stream import StreamGroupTraining, StreamTraining
from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.artifacts import attach_files
from beam_tfscript.files.oss_file_system import load_on_workers
from beam_tfscript.options.script_options import ScriptOptions, TransformOptions
from beam_tfscript.options.train_options import TrainOptions
from beam_tfscript.transforms.engine_limits import check_engine, keep_keys_together
from beam_tfscript.transforms.input_plan import plan_input, reader_of
from beam_tfscript.transforms.meeting_plan import plan_meeting
from beam_tfscript.transforms.side_inputs import chunk_side_inputs, plan_side_inputs
from beam_tfscript.transforms.spool_plan import plan_spool, remove_at_end

# (key, (shard, rows, packed records)).
_STREAM_CHUNK = beam.typehints.Tuple[int, beam.typehints.Tuple[int, int, bytes]]
# (key, (shard, rows, TFRecord bytes, reference to a spooled file)).
_DATASET_CHUNK = beam.typehints.Tuple[int, beam.typehints.Tuple[int, int, bytes, str]]
_MAIN_TAG = "outputs"


def run_script(
    rows: Any,
    given: TransformOptions,
    side_inputs: Mapping[str, tuple[Any, Schema | None]],
    *,
    label: str,
    dead_letters: DeadLetters | None = None,
    train: TrainOptions | None = None,
) -> tuple[Any, PCollection | None]:
    """Add all stages of a transform.

    Args:
      rows: the input; a pipeline for runs without rows.
      given: the transform's options.
      side_inputs: the return value of `check_side_inputs`.
      label: the transform's label, for errors.
      dead_letters: treatment of rows and outputs that do not fit; None fails the bundle.
      train: options of a training; None for runs that train nothing.

    Returns:
      (the outputs, the dead letters of the stage before the runs).

    Raises:
      ArgumentError, SchemaError: the input cannot be used.
    """
    load_on_workers(rows.pipeline)
    given = _attach_files(given, rows.pipeline)
    planned = plan_side_inputs(side_inputs, label)
    side_schemas = {side_input.name: side_input.schema for side_input in planned}
    if isinstance(rows, (PBegin, beam.Pipeline)):
        if given.feed == "bundles":
            raise ArgumentError('feed="bundles" needs an input: without rows there is no bundle. Leave feed out.')
        options = given.resolve(
            given.feed or "dataset",
            given.input_schema,
            side_schemas=side_schemas,
            meeting_dir=plan_meeting(given, rows.pipeline, label),
        )
        remove_at_end(rows.pipeline, options)
        return _run_without_rows(rows, options, dead_letters, train, chunk_side_inputs(planned, options)), None
    feed = _choose_feed(rows, given, label)
    schema, encoder = plan_input(
        rows.element_type,
        given.input_schema,
        selected_cols=given.selected_cols,
        shard_by=given.shard_by,
        reader=reader_of(rows),
    )
    windows_end = not isinstance(rows.windowing.windowfn, GlobalWindows)
    spool = plan_spool(given, feed, rows, label)
    options = given.resolve(
        feed,
        schema,
        windows_end=windows_end,
        side_schemas=side_schemas,
        is_streaming=_is_streaming(rows),
        spool_dir=spool.directory,
        spool=spool.spool,
        meeting_dir=plan_meeting(given, rows.pipeline, label),
    )
    remove_at_end(rows.pipeline, options)
    if feed == "bundles":
        return rows | "Run" >> _par_do(RunBundles(options, encoder, dead_letters), dead_letters), None
    return _run_shards(rows, options, encoder, dead_letters, train, chunk_side_inputs(planned, options))


def _attach_files(given: TransformOptions, pipeline: beam.Pipeline) -> TransformOptions:
    """Return the options with large local files made artifacts of the job, for workers on other machines."""
    env = given.python_env
    if env.archive is not None:
        env = dataclasses.replace(env, archive=attach_files([env.archive], pipeline)[0])
    return dataclasses.replace(given, files=attach_files(given.files, pipeline), python_env=env)


def _choose_feed(rows: PCollection, given: TransformOptions, label: str) -> str:
    """Return the feed; refuse a feed that cannot be used on this input."""
    is_spread = given.cluster is not None and given.cluster.is_spread
    feed = given.feed or ("dataset" if rows.is_bounded or is_spread else "stream")
    window_fn = rows.windowing.windowfn
    if feed == "stream" and window_fn.is_merging():
        raise ArgumentError(
            f'{label}: the input is in {type(window_fn).__name__}, whose windows merge, and in feed="stream" a run '
            "that has begun cannot become part of another: use fixed or sliding windows, or "
            'feed="dataset", whose runs begin when the windows are merged.'
        )
    check_engine(rows, feed=feed, label=label)
    return feed


def _run_shards(
    rows: PCollection,
    options: ScriptOptions,
    encoder: RowEncoder,
    dead_letters: DeadLetters | None,
    train: TrainOptions | None,
    side_chunks: AsIter | None,
) -> tuple[Any, PCollection | None]:
    """Add chunks, and a run for each shard, or cluster, and window; return the outputs and the chunks' dead letters."""
    is_streaming = options.feed == "stream" and not rows.is_bounded
    if is_streaming and side_chunks is not None:
        raise ArgumentError(
            'side_inputs are not for feed="stream" on unbounded input, where a run may begin at a timer, and '
            'runners give a timer no side inputs: use feed="dataset", or let the script read data that changes slowly.'
        )
    dofn: type[ChunkRows] = ChunkWindowedRows
    if isinstance(rows.windowing.windowfn, GlobalWindows) and not is_streaming:
        dofn = ChunkRows
    result = rows | "Chunk" >> _par_do(dofn(options, encoder, dead_letters), dead_letters)
    chunks = result if dead_letters is None else result[dead_letters.main_tag]
    chunks.element_type = _chunk_type(options)
    rejected = None if dead_letters is None else result[dead_letters.dead_letter_tag]
    if is_streaming:
        keep_keys_together(rows.pipeline)
        dofn_of_runs = (
            StreamShards(options, dead_letters) if train is None else StreamTraining(options, dead_letters, train)
        )
        return chunks | "Run" >> _par_do(dofn_of_runs, dead_letters), rejected
    return _run_groups(chunks, options, dead_letters, train, side_chunks), rejected


def _run_without_rows(
    pipeline: Any,
    options: ScriptOptions,
    dead_letters: DeadLetters | None,
    train: TrainOptions | None,
    side_chunks: AsIter | None,
) -> Any:
    """Add a run for each shard, with no rows."""
    chunk = (0, b"") if options.feed == "stream" else (0, b"", "")
    shards = [(key, (shard, *chunk)) for shard, key in enumerate(options.shard_keys)]
    chunks = pipeline | "Shards" >> beam.Create(shards, reshuffle=False)
    chunks.element_type = _chunk_type(options)
    return _run_groups(chunks, options, dead_letters, train, side_chunks)


def _chunk_type(options: ScriptOptions) -> Any:
    return _STREAM_CHUNK if options.feed == "stream" else _DATASET_CHUNK


def _is_streaming(rows: PCollection) -> bool:
    """Return True if the job is surely a streaming one, for which engines place keys in another way."""
    return not rows.is_bounded or bool(rows.pipeline.options.view_as(StandardOptions).streaming)


def _run_groups(
    chunks: PCollection,
    options: ScriptOptions,
    dead_letters: DeadLetters | None,
    train: TrainOptions | None,
    side_chunks: AsIter | None,
) -> Any:
    if options.meeting_dir is not None:
        # By task, so that the runner places each task on its own.
        chunks = chunks | "SpreadTasks" >> beam.ParDo(SpreadTasks(options))
        chunks.element_type = _chunk_type(options)
    stamp = chunks.windowing.timestamp_combiner != TimestampCombiner.OUTPUT_AT_EOW
    grouped = chunks | "GroupByShard" >> beam.GroupByKey()
    dofn = run_of_group(options, dead_letters, train, stamp=stamp)
    outputs = grouped | "Run" >> _par_do(dofn, dead_letters, side_chunks, has_spool=options.spool_dir is not None)
    if options.spool_dir is None:
        return outputs
    _ = outputs[SPOOLED_TAG] | "RemoveSpool" >> RemoveSpool()
    # Without dead letters, the outputs are one PCollection.
    return outputs[_MAIN_TAG] if dead_letters is None else outputs


def run_of_group(
    options: ScriptOptions, dead_letters: DeadLetters | None, train: TrainOptions | None, *, stamp: bool
) -> RunsScript:
    """Return the DoFn behind the shuffle.

    Args:
      options: the options of the runs.
      dead_letters: treatment of outputs that do not fit.
      train: options of a training; None for runs that train nothing.
      stamp: True if outputs must be given the window's end as timestamp.
    """
    if options.feed == "stream":
        if train is None:
            return StreamGroups(options, dead_letters)
        return StreamGroupTraining(options, dead_letters, train)
    if options.cluster is None:
        return RunShard(options, dead_letters, stamp=stamp)
    return (RunShares if options.cluster.is_spread else RunCluster)(options, dead_letters, train)


def _par_do(
    dofn: beam.DoFn, dead_letters: DeadLetters | None, side_chunks: AsIter | None = None, *, has_spool: bool = False
) -> beam.PTransform:
    par_do = beam.ParDo(dofn) if side_chunks is None else beam.ParDo(dofn, side_chunks=side_chunks)
    tags = [SPOOLED_TAG] if has_spool else []
    main_tag = _MAIN_TAG
    if dead_letters is not None:
        tags.append(dead_letters.dead_letter_tag)
        main_tag = dead_letters.main_tag
    return par_do.with_outputs(*tags, main=main_tag) if tags else par_do

"""Pipelines of the scale benchmark: made rows, one shuffle, and a script or nothing behind it; every row is counted."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from beam_tfscript import RunTFScript
from beam_tfscript.data import tfrecord
from beam_tfscript.data.chunks import Chunker
from beam_tfscript.data.encoding import RowEncoder
from beam_tfscript.data.schema import Schema
from beam_tfscript.data.shard_keys import make_shard_keys
from beam_tfscript.dofns.decode_output import OutputDecoder

SCHEMA = "id bigint not null, x array<float> not null"
NUM_FLOATS = 8
_SCRIPT = os.path.join(os.path.dirname(__file__), "scripts", "copy_rows.py")
_NAMESPACE = "scale"
_ROWS_PER_PART = 10_000
_ROWS_PER_ENCODING = 4096


class Job(NamedTuple):
    """One job.

    Attributes:
      kind: "identity" or "script".
      rows: number of rows.
      shards: number of shards.
      feed: as RunTFScript's; the identity of "bundles" has no shuffle.
      transport: as RunTFScript's; the identity always shuffles its rows.
      spool_dir: as RunTFScript's.
    """

    kind: str
    rows: int
    shards: int
    feed: str = "dataset"
    transport: str | None = None
    spool_dir: str | None = None


class Row(NamedTuple):
    """A row of the identity without a shuffle."""

    id: int
    x: list[float]


class MakeRows(beam.DoFn):
    """(first id, number) -> rows with ids from there on."""

    def process(self, part: tuple[int, int]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a part."""
        first, count = part
        for number in range(first, first + count):
            yield {"id": number, "x": [float(number % 100)] * NUM_FLOATS}


class CountRows(beam.DoFn):
    """Counts rows, and adds up their ids: rows that are lost or doubled change the two."""

    def __init__(self) -> None:
        self._rows = Metrics.counter(_NAMESPACE, "rows")
        self._ids = Metrics.counter(_NAMESPACE, "ids")

    def start_bundle(self) -> None:
        """Begin with no rows."""
        self._count = self._total = 0

    def process(self, row: Any) -> None:
        """Count a row."""
        self._count += 1
        self._total += row.id

    def finish_bundle(self) -> None:
        """Add the bundle's rows to the metrics."""
        self._rows.inc(self._count)
        self._ids.inc(self._total)


class IdentityShuffle(beam.PTransform):
    """The shuffle of RunTFScript without a script: rows to chunks, grouped by shard, and back to rows."""

    def __init__(self, shards: int):
        super().__init__()
        self._shards = shards

    def expand(self, rows):
        """Add the stages."""
        return (
            rows
            | beam.ParDo(_Encode(self._shards)).with_output_types(beam.typehints.Tuple[int, bytes])
            | beam.GroupByKey()
            | beam.ParDo(_Decode())
        )


class _Encode(beam.DoFn):
    def __init__(self, shards: int):
        self._encoder = RowEncoder(Schema.parse(SCHEMA))
        self._keys = make_shard_keys(shards, is_streaming=False)

    def start_bundle(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._chunker = Chunker(len(self._keys), random.randrange(len(self._keys)))

    def process(self, row: dict[str, Any]) -> Iterable[Any]:
        self._rows.append(row)
        return self._encode() if len(self._rows) >= _ROWS_PER_ENCODING else ()

    def finish_bundle(self) -> Iterator[Any]:
        window = GlobalWindow()
        chunks = [*self._encode(), *((self._keys[chunk.shard], chunk.payload) for chunk in self._chunker.flush())]
        for chunk in chunks:
            yield WindowedValue(chunk, window.max_timestamp(), (window,))

    def _encode(self) -> list[tuple[int, bytes]]:
        rows, self._rows = self._rows, []
        examples = self._encoder.encode(rows, keep_going=False).examples
        return [(self._keys[chunk.shard], chunk.payload) for chunk in self._chunker.add(examples)]


class _Decode(beam.DoFn):
    def setup(self) -> None:
        self._decoder = OutputDecoder(Schema.parse(SCHEMA), "row")

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        for payload in element[1]:
            yield from self._decoder.decode(tfrecord.split(payload))


def run(job: Job, options: list[str], *, runner: str | beam.runners.PipelineRunner) -> float:
    """Run a job; return its seconds from the submission to the end.

    Raises:
      AssertionError: a row is missing, or came twice.
    """
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options))
    build(pipeline, job)
    begin = time.perf_counter()
    result = pipeline.run()
    result.wait_until_finish()
    seconds = time.perf_counter() - begin
    check(result, job)
    return seconds


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """Add a job's stages to a pipeline."""
    parts = [(first, min(_ROWS_PER_PART, job.rows - first)) for first in range(0, job.rows, _ROWS_PER_PART)]
    rows = pipeline | "Parts" >> beam.Create(parts) | "Rows" >> beam.ParDo(MakeRows()).with_output_types(dict)
    _ = rows | "Shuffle" >> _make_transform(job) | "Count" >> beam.ParDo(CountRows())


def _make_transform(job: Job) -> beam.PTransform:
    if job.kind == "identity":
        return beam.Map(lambda row: Row(**row)) if job.feed == "bundles" else IdentityShuffle(job.shards)
    shuffled = {} if job.feed == "bundles" else {"num_workers": job.shards}
    if job.feed == "dataset":
        shuffled.update(transport=job.transport, spool_dir=job.spool_dir)
    return RunTFScript(_SCRIPT, SCHEMA, input_schema=SCHEMA, feed=job.feed, **shuffled)


def check(result: Any, job: Job) -> None:
    """Check that every row came once.

    Raises:
      AssertionError: a row is missing, or came twice.
    """
    found = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))["counters"]
    totals = {entry.key.metric.name: entry.result for entry in found}
    expected = {"rows": job.rows, "ids": job.rows * (job.rows - 1) // 2}
    assert totals == expected, f"{job}: {totals} where {expected} is expected"

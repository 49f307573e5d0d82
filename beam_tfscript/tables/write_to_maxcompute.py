"""`WriteToMaxCompute`: rows or Arrow batches into a table of MaxCompute, all at once or not at all."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsIter, AsSingleton
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam_tfscript.data.align import align_record_batch
from beam_tfscript.data.batch_hints import columns_of_batches
from beam_tfscript.data.encoding import ARROW
from beam_tfscript.data.plain_arrow import plain_record_batches
from beam_tfscript.data.rows import rows_to_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.beam_types import schema_of
from beam_tfscript.errors import ArgumentError
from beam_tfscript.tables.addresses import address_of, address_of_uri, partition_of, partition_text, table_text
from beam_tfscript.tables.apis import check_api
from beam_tfscript.tables.client import connected
from beam_tfscript.tables.write_target import TableCommit, Target

__all__ = ["WriteToMaxCompute"]

MODES = ("append", "overwrite")
# Rows per batch before the shuffle.
_BATCH_ROWS = 4096


# (shard, serialized Arrow batch).
_SHARD = beam.typehints.Tuple[int, bytes]


class WriteToMaxCompute(beam.PTransform):
    """Write rows to a table of MaxCompute.

    Elements are rows with a Beam schema, dicts, or `pyarrow.RecordBatch`es. There is one write session per run of the
    pipeline, and one commit at its end: no row is visible before. A bundle that is tried again writes its block again,
    and only the attempt whose bundle succeeded is committed. The output has one element, a `TableCommit`.

    Endpoint and credentials come from the environment, here and on the workers: docs/maxcompute.md lists the variables.

    Args:
      project: name of the project.
      table: name of the table, or `schema.table` in projects with schemas.
      partition: the partition to write, as `"pt=20240131/region=cn"` or a dict; it is created if it does not exist.
        None for a table without partitions, or if the rows have the partition columns.
      mode: `"append"`, or `"overwrite"` to replace the rows of the table, or of the partitions that are written.
      schema: the columns of the elements, as text or `Schema`; None for those of the PCollection's type.
      create: True to create the table if it does not exist, with the columns of the schema.
      partition_by: names of the partition columns of a table that is created; None for those of `partition`.
      lifecycle: days after which a table that is created drops unchanged data; None to keep it.
      num_shards: number of blocks that are written in parallel.
      api: as in `ReadFromMaxCompute`.

    Raises:
      ArgumentError: an argument cannot be used, or there is no such table; while the pipeline is built.
      SchemaError: the table lacks a column of the rows, or has another type; while the pipeline is built.
    """

    def __init__(
        self,
        project: str,
        table: str,
        partition: str | Mapping[str, Any] | None = None,
        mode: str = "append",
        *,
        schema: str | Schema | None = None,
        create: bool = False,
        partition_by: Sequence[str] | None = None,
        lifecycle: int | None = None,
        num_shards: int = 16,
        api: str = "auto",
    ):
        super().__init__()
        if mode not in MODES:
            raise ArgumentError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}.")
        if not isinstance(num_shards, int) or num_shards < 1:
            raise ArgumentError(f"num_shards must be a positive integer, got {num_shards!r}.")
        if not create and (partition_by is not None or lifecycle is not None):
            raise ArgumentError("partition_by and lifecycle are for create=True: leave them out, or add it.")
        check_api(api)
        pairs = partition_of(partition)
        self._schema = Schema.parse(schema) if isinstance(schema, str) else schema
        self._num_shards = num_shards
        self._target = Target(
            address_of(project, table)._replace(partition=pairs),
            mode == "overwrite",
            tuple(name for name, _ in pairs) if partition_by is None else tuple(partition_by),
            create,
            lifecycle,
            api,
        )
        if not create:
            self._target.look_up(ArgumentError)

    @classmethod
    def from_uri(cls, uri: str, **arguments: Any) -> "WriteToMaxCompute":
        """Return the transform for `odps://project/tables/name`, with the partition to write behind it.

        Args:
          uri: the address.
          **arguments: further arguments.

        Raises:
          ArgumentError: the text is not such an address; else as for the class.
        """
        address = address_of_uri(uri)
        if address.partition:
            arguments["partition"] = partition_text(address.partition)
        return cls(address.project, table_text(address), **arguments)

    def display_data(self) -> dict[str, Any]:
        """Return the display items of a job's page."""
        return {"table": str(self._target.address), "mode": MODES[self._target.is_overwriting]}

    def expand(self, rows):
        """Add the session, the blocks and the commit.

        Raises:
          ArgumentError, SchemaError: the rows do not fit the table.
        """
        if not rows.is_bounded:
            raise ArgumentError(
                "WriteToMaxCompute commits once, when its input ends, and this input never ends: write files per "
                "window, or run one bounded pipeline per partition."
            )
        schema = self._schema or columns_of_batches(rows.element_type) or schema_of(rows.element_type)
        if schema is None:
            raise ArgumentError(
                f"The columns of the rows are not known: the elements are {rows.element_type}. Give schema='id string, "
                "x float', or elements with a Beam schema."
            )
        target = self._target.for_schema(schema)
        session = (
            rows.pipeline
            | "Begin" >> beam.Create([None])
            | "Open" >> beam.ParDo(_OpenSession(target))
            # Two steps use it: an engine that computes what comes before anew for each would open two sessions.
            | "Keep session" >> beam.Reshuffle()
        )
        blocks = (
            rows
            | "Global" >> beam.WindowInto(GlobalWindows())
            | "Batch" >> beam.ParDo(_BatchRows(schema, self._num_shards)).with_output_types(_SHARD)
            | "Shuffle" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_WriteBlocks(target, self._num_shards), AsSingleton(session))
            # The blocks are made durable before the commit: a bundle that is tried again must not change them.
            | "Keep" >> beam.Reshuffle()
        )
        return session | "Commit" >> beam.ParDo(_Commit(target), AsIter(blocks)).with_output_types(TableCommit)


class _OpenSession(beam.DoFn):
    """Nothing -> (write session, table)."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, _: Any) -> Iterator[Any]:
        """Create the session."""
        with connected(self._target.address.project) as odps:
            yield self._target.open(odps)


class _BatchRows(beam.DoFn):
    """Rows, dicts or Arrow batches -> (shard, serialized Arrow batch).

    Args:
      schema: columns of the rows.
      num_shards: number of shards.
    """

    def __init__(self, schema: Schema, num_shards: int):
        self._schema = schema
        self._num_shards = num_shards

    def start_bundle(self) -> None:
        """Begin with no rows, at a random shard: bundles may have fewer batches than there are shards."""
        self._rows: list[Any] = []
        self._shard = random.randrange(self._num_shards)

    def process(self, row: Any) -> Iterable[Any]:
        """Take one row, or an Arrow batch of rows; return the batches that are full."""
        if isinstance(row, ARROW):
            return self._keyed(align_record_batch(row, self._schema))
        self._rows.append(row)
        return self._flush() if len(self._rows) >= _BATCH_ROWS else ()

    def finish_bundle(self) -> Iterator[Any]:
        """Yield the remaining rows."""
        window = GlobalWindow()
        for pair in self._flush():
            yield WindowedValue(pair, window.max_timestamp(), (window,))

    def _flush(self) -> Iterable[Any]:
        rows, self._rows = self._rows, []
        return self._keyed(rows_to_record_batch(rows, self._schema)) if rows else ()

    def _keyed(self, batch: pa.RecordBatch) -> Iterator[Any]:
        for plain in plain_record_batches(batch, self._schema):
            self._shard = (self._shard + 1) % self._num_shards
            yield self._shard, plain.serialize().to_pybytes()


class _WriteBlocks(beam.DoFn):
    """Shards -> the blocks that were written."""

    def __init__(self, target: Target, num_shards: int):
        self._target = target
        self._num_shards = num_shards

    def process(self, shard: Any, opened: Any) -> Iterator[Any]:
        """Write one shard."""
        number, batches = shard
        session, table = opened
        with connected(self._target.address.project) as odps:
            yield from self._target.blocks(odps, session, table, number, self._num_shards, batches)


class _Commit(beam.DoFn):
    """A write session and its blocks -> its commit."""

    def __init__(self, target: Target):
        self._target = target

    def process(self, opened: Any, blocks: Iterable[Any]) -> Iterator[Any]:
        """Commit, once: after a retry, a session that is committed stays as it is."""
        with connected(self._target.address.project) as odps:
            yield self._target.commit(odps, opened[0], list(blocks))

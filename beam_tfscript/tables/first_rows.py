"""First rows of a table, without a pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from beam_tfscript.data.plain_arrow import plain_schema
from beam_tfscript.data.schema import Schema
from beam_tfscript.tables.client import connected
from beam_tfscript.tables.read_from_maxcompute import ReadFromMaxCompute

__all__ = ["read_first_rows"]


def read_first_rows(uri: str, schema: Schema | None, rows: int) -> pa.Table:
    """Return the first rows of a table, as a table of the columns' plain types.

    Args:
      uri: address of the table or of a partition.
      schema: the columns; None for all columns.
      rows: maximum number of rows.

    Raises:
      ArgumentError: there is no such table.
      TableError: the table cannot be read.
    """
    transform = ReadFromMaxCompute.from_uri(uri, schema=schema, output_as="record_batch")
    with connected(transform.reading.address.project) as odps:
        batches = list(_batches(transform, odps, rows))
    return pa.Table.from_batches(batches, plain_schema(transform.schema)).slice(0, rows)


def _batches(transform: ReadFromMaxCompute, odps: Any, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches until there are enough rows; the rest of a split is not read."""
    for split in transform.reading.plan(odps):
        with contextlib.closing(transform.reading.open(odps, split.api)) as sessions:
            for batch in transform.reading.read(sessions, split):
                yield from transform.reading.elements(batch)
                rows -= batch.num_rows
                if rows <= 0:
                    return

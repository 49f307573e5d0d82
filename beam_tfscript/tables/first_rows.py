"""First rows of a table, without a pipeline."""

from __future__ import annotations

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
    transform = ReadFromMaxCompute.from_uri(uri, schema=schema, output_as="record_batch", rows_per_split=rows)
    reading = transform.reading
    found: list[pa.RecordBatch] = []
    with connected(reading.address.project) as odps:
        for split in reading.plan(odps):
            sessions = reading.open(odps, split.api)
            try:
                for batch in reading.read(sessions, split):
                    found += reading.elements(batch)
            finally:
                sessions.close()
            if sum(batch.num_rows for batch in found) >= rows:
                break
    return pa.Table.from_batches(found, plain_schema(transform.schema)).slice(0, rows)

"""Arrow batches as the service has them, to batches of a schema, and back.

The service's batches have 32-bit offsets, times without a zone, which are in UTC, and maps and structs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa
from pyarrow import types as is_type

from beam_tfscript.data.align import align_record_batch
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import RowError
from beam_tfscript.tables.column_types import arrow_type_of, column_of, needs_json
from beam_tfscript.tables.json_text import from_json, to_json

__all__ = ["to_schema", "to_table"]


def to_schema(batch: pa.RecordBatch, schema: Schema, as_json: Collection[str]) -> pa.RecordBatch:
    """Return a batch of a table as a batch of a schema.

    Args:
      batch: a batch that the service sent.
      schema: the columns.
      as_json: names of the columns whose values become JSON text.

    Raises:
      SchemaError, RowError: a column or value does not fit the schema.
    """
    names, arrays = list(batch.schema.names), list(batch.columns)
    for name in set(as_json).intersection(names):
        at = names.index(name)
        arrays[at] = to_json(arrays[at])
    return align_record_batch(pa.RecordBatch.from_arrays(arrays, names=names), schema)


def to_table(batch: pa.RecordBatch, types: Mapping[str, Any]) -> pa.RecordBatch:
    """Return a batch with the columns of a table, as the service takes them; columns that the batch lacks are null.

    Args:
      batch: a batch of a schema; its columns are found by name, in upper or lower case.
      types: the table's columns in order, name -> pyodps's type.

    Raises:
      SchemaError, RowError: a column or value does not fit the table's type.
    """
    columns = {name.lower(): array for name, array in zip(batch.schema.names, batch.columns)}
    fields = [pa.field(name, arrow_type_of(odps_type)) for name, odps_type in types.items()]
    arrays = []
    for field in fields:
        array = columns.get(field.name.lower())
        if array is None:
            arrays.append(pa.nulls(batch.num_rows, field.type))
        else:
            arrays.append(_convert(array, field, types[field.name]))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _convert(array: pa.Array, field: pa.Field, odps_type: Any) -> pa.Array:
    if not needs_json(odps_type):
        column = column_of(field.name, odps_type)
        named = pa.RecordBatch.from_arrays([array], names=[field.name])
        # The cast narrows the offsets, and drops the time zone, which is UTC.
        return align_record_batch(named, Schema((column,))).column(0).cast(field.type)
    try:
        is_text = is_type.is_string(array.type) or is_type.is_large_string(array.type)
        return from_json(array, field.type) if is_text else array.cast(field.type)
    except (pa.ArrowException, ValueError) as error:
        text = f"Column {field.name!r} does not fit the table's type {odps_type.name}: {error}."
        raise RowError(text, column=field.name) from error

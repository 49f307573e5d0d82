"""Arrow batches of a schema's types to batches of plain types, which other writers of Arrow data expect.

Input: a batch of `schema.to_arrow()`, whose texts, bytes and lists have 64-bit offsets. Output: batches with the types
`string`, `binary` and `list`. There is more than one where a column of the batch is too large for 32-bit offsets.
Values are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyarrow import types as is_type

from beam_tfscript.data.arrow_types import plain_type
from beam_tfscript.data.schema import Schema
from beam_tfscript.errors import OutputError

__all__ = ["plain_record_batches", "plain_schema"]

# The last offset that 32 bits hold: the bytes of all texts of a column, or the elements of all its lists.
_MAX_OFFSET = 2**31 - 1


class _TooLarge(Exception):
    """A column is too large for 32-bit offsets."""


def plain_schema(schema: Schema) -> pa.Schema:
    """Return the Arrow schema of the batches that `plain_record_batches` yields."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema.to_arrow()])


def plain_record_batches(batch: pa.RecordBatch, schema: Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch as batches of plain types.

    Args:
      batch: a batch of `schema.to_arrow()`.
      schema: the batch's columns.

    Raises:
      OutputError: a single row is too large for 32-bit offsets.
    """
    arrow = plain_schema(schema)
    waiting = [batch] if batch.num_rows else []
    while waiting:
        part = waiting.pop()
        try:
            arrays = [_plain(array) for array in part.columns]
        except _TooLarge as error:
            half = part.num_rows // 2
            if not half:
                raise OutputError(
                    'A row has a value of more than 2 GiB, which Arrow\'s plain types cannot hold: use output_as="dict"'
                    " or smaller values."
                ) from error
            waiting += [part.slice(half), part.slice(0, half)]
        else:
            yield pa.RecordBatch.from_arrays(arrays, schema=arrow)


def _plain(array: pa.Array) -> pa.Array:
    wanted = plain_type(array.type)
    if wanted == array.type:
        return array
    if is_type.is_fixed_size_list(array.type):
        return _plain_tensors(array, wanted)
    validity = array.is_valid().buffers()[1] if array.null_count else None
    # The offsets of a slice do not begin at 0, and a cast would refuse those beyond 32 bits.
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    first, last = (int(offsets[0]), int(offsets[-1])) if len(array) else (0, 0)
    if last - first > _MAX_OFFSET:
        raise _TooLarge
    narrow = pa.py_buffer((offsets - first).astype(np.int32)) if len(array) else pa.py_buffer(bytes(4))
    if is_type.is_large_list(array.type):
        values = _plain(array.values.slice(first, last - first))
        return pa.Array.from_buffers(wanted, len(array), [validity, narrow], array.null_count, children=[values])
    data = array.buffers()[2]
    data = pa.py_buffer(b"") if data is None else data.slice(first, last - first)
    return pa.Array.from_buffers(wanted, len(array), [validity, narrow, data], array.null_count)


def _plain_tensors(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    size = array.type.list_size
    values = _plain(array.values.slice(array.offset * size, len(array) * size))
    validity = array.is_valid().buffers()[1] if array.null_count else None
    return pa.Array.from_buffers(wanted, len(array), [validity], array.null_count, children=[values])

"""Arrays and tensors of `uint8` to bytes and back: a row's numbers are one value of a bytes feature.

Input: an Arrow array of such a column. Output: the rows' bytes as `large_binary`; and from bytes, the array again, or a
`ConversionError`. In an int64 list, each number would take up to two bytes and several times as long.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from beam_tfscript.data.arrow_types import list_array, tensor_array
from beam_tfscript.data.column import Column
from beam_tfscript.data.conversion_errors import ConversionError

__all__ = ["pack_numbers", "unpack_numbers"]


def pack_numbers(array: pa.Array, column: Column) -> pa.LargeBinaryArray:
    """Return each row's numbers as bytes; nulls become empty bytes, which the caller masks."""
    if column.is_array:
        lengths = array.value_lengths().fill_null(0).to_numpy()
        flat = array.flatten()
    else:
        size = _size(column)
        lengths = np.full(len(array), size)
        if array.null_count:
            lengths = np.where(array.is_valid().to_numpy(zero_copy_only=False), size, 0)
        flat = array
        for _ in column.shape:
            flat = flat.flatten()
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    data = pa.py_buffer(flat.to_numpy())
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), [None, pa.py_buffer(offsets), data])


def unpack_numbers(values: pa.LargeBinaryArray, column: Column, valid: np.ndarray | None) -> pa.Array:
    """Return the column's array.

    Args:
      values: the bytes of the rows that are not null.
      column: an array or tensor of `uint8`.
      valid: bool, shape [rows]: False for null; None where no row is null.

    Raises:
      ConversionError: a row's number of bytes is not the tensor's number of elements.
    """
    offsets: np.ndarray = np.zeros(1, np.int64)
    if len(values):
        offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(offsets)
    if not column.is_array and (lengths != _size(column)).any():
        found = int(lengths[(lengths != _size(column)).argmax()])
        raise ConversionError(f"the feature has {found} bytes, and shape {column.shape} has exactly {_size(column)}")
    flat: np.ndarray = np.zeros(0, np.uint8)
    if offsets[-1] > offsets[0]:
        flat = np.frombuffer(values.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    if column.is_tensor:
        return tensor_array(pa.array(flat), column, valid)
    if valid is not None:
        spread: np.ndarray = np.zeros(len(valid), np.int64)
        spread[valid] = lengths
        lengths = spread
    return list_array(lengths, pa.array(flat), valid)


def _size(column: Column) -> int:
    return math.prod(size or 0 for size in column.shape)

"""Conversion of parsed features: TensorFlow's arrays in, column name -> numpy array of the column's dtype out.

`parsing.Parser` does the same with tensors. Here TensorFlow's graph only parses, and numpy does the rest. For hundreds
of columns, TensorFlow takes many seconds to build the graph of a `Parser`.
"""

from beam_tfscript.runtime.columns import InputMismatch
from beam_tfscript.runtime.reading.parsing import masked_columns, parse_raw, presence_of_arrays


class Unpacker(object):
    """Both halves of parsing: the tensors that TensorFlow computes, and the conversion of their values.

    Args:
      columns: list of the `Column`s to parse.
      masks: adds `<name>__present` for nullable columns without a default.

    Raises:
      ValueError: a mask would have the name of a column.
    """

    def __init__(self, columns, masks):
        self._columns = columns
        self._masked = masked_columns(columns, masks)
        self._masked_arrays = [column for column in self._masked if column.is_array]

    def tensors(self, serialized):
        """Return a tuple of tensors for a 1-D string tensor of Examples."""
        import tensorflow as tf

        parsed = parse_raw(serialized, self._columns, self._masked)
        tensors = [tf.size(serialized)]
        if self._masked_arrays:
            tensors.append(presence_of_arrays(serialized, self._masked_arrays))
        for column in self._columns:
            tensors.extend(_parts(parsed[column.name]))
            if column.row_lengths:
                tensors.extend(_parts(parsed[column.row_lengths]))
        return tuple(tensors)

    def unpack(self, arrays):
        """Convert the values of `tensors()` to a dict, column name -> numpy array.

        Raises:
          InputMismatch: a row does not fit its column.
        """
        arrays = iter(arrays)
        count = int(next(arrays))
        batch = {}  # type: dict
        if self._masked_arrays:
            present = next(arrays)
            batch.update((column.mask_name, present[:, i].copy()) for i, column in enumerate(self._masked_arrays))
        for column in self._columns:
            values = next(arrays)
            if column.is_packed:
                if column in self._masked and not column.is_array:
                    values, batch[column.mask_name] = _dense_packed(column, values, next(arrays), count)
                values = _unpacked(column, values)
            elif column.is_array:
                splits = _splits(values, count)
                values = _typed(column, next(arrays))
                if column.row_lengths:
                    outer, lengths = _splits(next(arrays), count), next(arrays)
                    values, splits = _inner_rows(column, values, splits, outer, lengths), outer
                values = cut(values, splits)
            elif column in self._masked:
                values, batch[column.mask_name] = _dense(column, values, next(arrays), count)
                values = _typed(column, values)
            else:
                values = _typed(column, values)
            batch[column.name] = values
        return batch


def cut(values, splits):
    """Return an object array that holds a slice of `values` per row."""
    import numpy as np

    bounds = splits.tolist()
    rows = np.empty(len(bounds) - 1, object)  # type: np.ndarray
    # One by one: of rows of one length, numpy would make a 2-D array.
    for index, start in enumerate(bounds[:-1]):
        rows[index] = values[start : bounds[index + 1]]
    return rows


def _parts(parsed):
    """Return the tensors of a parsed feature: the feature itself; of a sparse one, rows and values."""
    return [parsed.indices[:, 0], parsed.values] if hasattr(parsed, "indices") else [parsed]


def _splits(rows, count):
    """Return the bounds of the rows of a VarLen feature; `rows` is the row of each value."""
    import numpy as np

    return np.searchsorted(rows, np.arange(count + 1))


def _typed(column, values):
    """Convert `values` from the feature's dtype to the column's dtype."""
    import numpy as np

    if column.kind == "float64":
        return values.view(np.float64)
    if column.kind == "boolean":
        return values != 0
    if column.dtype == "bytes" or values.dtype == column.dtype:
        return values
    narrow = values.astype(column.dtype)
    # The pipeline's input may be Examples, which it does not check. A cast would wrap a number that is out of range.
    if column.feature == "int64" and not np.array_equal(narrow, values):
        raise InputMismatch('column "{}": a value is out of the range of {}'.format(column.name, column.type))
    return narrow


def _dense(column, rows, values, count):
    """Return (values with zeros for nulls, bool mask of the rows that are not null) of a masked scalar or tensor."""
    import numpy as np

    counts = np.bincount(rows, minlength=count)
    present = counts > 0
    if not np.array_equal(counts, present * column.size):
        problem = 'column "{}": a row has neither 0 nor {} values'
        raise InputMismatch(problem.format(column.name, column.size))
    dense = np.zeros((count, column.size), values.dtype)  # type: np.ndarray
    if column.feature == "bytes":
        dense[...] = b""
    dense[present] = values.reshape(-1, column.size)
    return dense.reshape((count,) + column.shape), present


def _dense_packed(column, rows, values, count):
    """Return (bytes with zeros for nulls, bool mask of the rows that are not null) of a masked packed tensor."""
    import numpy as np

    counts = np.bincount(rows, minlength=count)
    present = counts > 0
    if (counts > 1).any():
        raise InputMismatch('column "{}": a row has more than one value'.format(column.name))
    dense = np.empty(count, object)  # type: np.ndarray
    dense[...] = bytes(column.size)
    dense[rows] = values
    return dense, present


def _unpacked(column, values):
    """Return the numbers of rows that are one bytes value each."""
    import numpy as np

    lengths = np.fromiter(map(len, values), np.int64, len(values))
    numbers = np.frombuffer(bytearray(b"".join(values)), np.uint8)
    if column.is_array:
        return cut(numbers, np.concatenate([[0], np.cumsum(lengths)]))
    if (lengths != column.size).any():
        raise InputMismatch('column "{}": a row does not have {} bytes'.format(column.name, column.size))
    return numbers.reshape((-1,) + column.shape)


def _inner_rows(column, values, splits, outer, lengths):
    """Return the inner arrays of all rows of an array of arrays."""
    import numpy as np

    inner = np.concatenate([[0], np.cumsum(lengths)])
    if not np.array_equal(inner[outer], splits):
        problem = 'column "{}": the inner lengths do not add up to the number of values'
        raise InputMismatch(problem.format(column.name))
    return cut(values, inner)

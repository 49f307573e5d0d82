"""Parsed features as numpy arrays in, column name -> numpy array of the column's own dtype out.

The same as what `parsing.Parser` does with tensors. Here the graph only parses, and numpy does the rest: a
graph of hundreds of columns with all that in it takes TensorFlow many seconds to build.
"""

from beam_tfscript.runtime.columns import InputMismatch
from beam_tfscript.runtime.reading.parsing import masked_columns, parse_raw, presence_of_arrays


class Unpacker(object):
    """Both halves of parsing: the tensors to ask TensorFlow for, and what to make of their values.

    Args:
      columns: what to parse.
      masks: adds `<name>__present` for nullable columns without a default.

    Raises:
      ValueError: a mask would have the name of a column.
    """

    def __init__(self, columns, masks):
        self._columns = columns
        self._masked = masked_columns(columns, masks)
        self._masked_arrays = [column for column in self._masked if column.is_array]

    def tensors(self, serialized):
        """A tuple of tensors for a 1-D string tensor of Examples."""
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
        """A dict, column name -> numpy array, of the values of `tensors()`.

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
    """An object array with one slice of `values` a row."""
    import numpy as np

    bounds = splits.tolist()
    rows = np.empty(len(bounds) - 1, object)  # type: np.ndarray
    # One by one: an assignment of the whole list would make a 2-D array of rows of one length.
    for index, start in enumerate(bounds[:-1]):
        rows[index] = values[start : bounds[index + 1]]
    return rows


def _parts(parsed):
    """The tensors of one parsed feature: itself, or of a sparse one the rows and the values."""
    return [parsed.indices[:, 0], parsed.values] if hasattr(parsed, "indices") else [parsed]


def _splits(rows, count):
    """Where the rows of a VarLen feature end; `rows` is the row of each value."""
    import numpy as np

    return np.searchsorted(rows, np.arange(count + 1))


def _typed(column, values):
    """`values` with the column's own dtype instead of the feature's."""
    import numpy as np

    if column.kind == "float64":
        return values.view(np.float64)
    if column.kind == "boolean":
        return values != 0
    if column.dtype == "bytes" or values.dtype == column.dtype:
        return values
    narrow = values.astype(column.dtype)
    # Rows that came as ready Examples may hold anything, and a cast would wrap it.
    if column.feature == "int64" and not np.array_equal(narrow, values):
        raise InputMismatch('column "{}": a value is out of the range of {}'.format(column.name, column.type))
    return narrow


def _dense(column, rows, values, count):
    """A masked scalar or tensor: (values with zero where null, which rows are not null)."""
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
    """A masked packed tensor: (strings of bytes, zeros where null; which rows are not null)."""
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
    """The numbers of rows that are a string of bytes each."""
    import numpy as np

    lengths = np.fromiter(map(len, values), np.int64, len(values))
    numbers = np.frombuffer(bytearray(b"".join(values)), np.uint8)
    if column.is_array:
        return cut(numbers, np.concatenate([[0], np.cumsum(lengths)]))
    if (lengths != column.size).any():
        raise InputMismatch('column "{}": a row does not have {} bytes'.format(column.name, column.size))
    return numbers.reshape((-1,) + column.shape)


def _inner_rows(column, values, splits, outer, lengths):
    """The inner arrays of arrays of arrays, those of all rows."""
    import numpy as np

    inner = np.concatenate([[0], np.cumsum(lengths)])
    if not np.array_equal(inner[outer], splits):
        problem = 'column "{}": the inner lengths do not add up to the number of values'
        raise InputMismatch(problem.format(column.name))
    return cut(values, inner)

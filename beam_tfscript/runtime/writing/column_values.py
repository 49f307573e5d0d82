"""A whole column that the script writes in, its values as one flat array or a list of bytes out."""

import itertools
from collections import namedtuple

from beam_tfscript.runtime.writing.flat_values import array_of, elements_of
from beam_tfscript.runtime.writing.single_values import is_null, mismatch, shown

ColumnValues = namedtuple("ColumnValues", ["values", "lengths", "nulls"])
ColumnValues.__doc__ = """Values of one feature of many rows.

`values`: array of float32 or int64, or list of bytes: the values of all rows, one after the other.
`lengths`: int64 array, number of values per row; None if each row has equally many.
`nulls`: bool array, True where the row is null, and so has no values; None without a null.
"""


def flatten_column(column, rows, present=None, single=False):
    """Flatten and check one column.

    Args:
      column: the `Column`.
      rows: list, numpy array, eager tensor or ragged tensor with one value per row.
      present: bool array, False where the row is null whatever its value; or None.
      single: True if the call writes one row; messages then name no row.

    Returns:
      (number of rows, dict of feature name -> `ColumnValues`).

    Raises:
      OutputMismatch: a value, a shape or a length does not fit the column.
    """
    rows = _plain(column, rows)
    count = len(rows.row_splits) - 1 if hasattr(rows, "row_splits") else len(rows)
    if not count:
        rows = []  # an array of no rows does not tell the shape of a row
    present_rows = None
    if present is not None:
        present = _checked_mask(column, present, count)
        if not present.all():
            rows, present_rows = _compress(rows, present), present.nonzero()[0]

    def row_of(index):
        return None if single else int(index if present_rows is None else present_rows[index])

    features = _READERS[_form(column)](column, rows, row_of)
    if present_rows is not None:
        features = {name: _spread(cells, present) for name, cells in features.items()}
    if not column.nullable:
        nulls = features[column.name].nulls
        if nulls is not None and nulls.any():
            row = None if single else int(nulls.argmax())
            raise mismatch(column, row, "null (None) in a column that is not null")
    if column.is_packed:
        features[column.name] = _pack(count, features[column.name])
    return count, features


def _pack(count, cells):
    """Return ColumnValues of numbers as ColumnValues of one bytes object per row, empty where the row is null."""
    import numpy as np

    values = np.ascontiguousarray(cells.values, np.uint8)  # the cast is safe: their range is checked
    size = len(values) // max(count, 1)
    if cells.lengths is None and size:
        return ColumnValues(
            values.reshape(count, size).view("V{}".format(size)).reshape(count).tolist(), None, cells.nulls
        )
    data = values.tobytes()
    ends = np.cumsum(np.full(count, size) if cells.lengths is None else cells.lengths).tolist()
    rows = [data[start:end] for start, end in zip([0] + ends, ends)]
    return ColumnValues(rows, None, cells.nulls)


def _form(column):
    if column.is_scalar:
        return "scalar"
    if not column.is_array:
        return "tensor"
    return "nested" if column.is_nested else "array"


def _scalars(column, rows, row_of):
    if not isinstance(rows, list):
        # A model with one output per row gives an array of shape [n, 1].
        if len(rows.shape) > 1 and rows.size == len(rows):
            rows = rows.reshape(len(rows))
        if len(rows.shape) > 1:
            raise mismatch(column, row_of(0), "one value is expected, got an array of shape {}".format(rows.shape[1:]))
    values, nulls = _drop_nulls(rows)
    if nulls is not None:
        kept = (~nulls).nonzero()[0]
        flat = elements_of(column, values, lambda index: row_of(kept[index]))
        return {column.name: ColumnValues(flat, (~nulls).astype("i8"), nulls)}
    return {column.name: ColumnValues(elements_of(column, values, row_of), None, None)}


def _tensors(column, rows, row_of):
    import numpy as np

    lengths = nulls = None
    if isinstance(rows, list) or rows.dtype == object and len(rows.shape) == 1:
        values, nulls = _drop_nulls(rows)
        kept = range(len(rows)) if nulls is None else (~nulls).nonzero()[0]
        rows = _stack(column, values, lambda index: row_of(kept[index]))
        lengths = None if nulls is None else (~nulls) * np.int64(column.size)
    elif rows.shape[1:] != column.shape:
        raise mismatch(column, row_of(0), "shape {} is expected, got {}".format(column.shape, rows.shape[1:]))
    else:
        kept = range(len(rows))
    flat = elements_of(column, rows.reshape(-1), lambda index: row_of(kept[index // column.size]))
    return {column.name: ColumnValues(flat, lengths, nulls)}


def _arrays(column, rows, row_of):
    values, lengths, nulls = _split(column, rows, row_of)
    if hasattr(values, "row_splits"):
        raise mismatch(column, None, "the ragged tensor has more dimensions than the column")
    flat = elements_of(column, values, lambda index: row_of(_row_at(lengths, index)))
    return {column.name: ColumnValues(flat, lengths, nulls)}


def _nested_arrays(column, rows, row_of):
    import numpy as np

    arrays, counts, nulls = _split(column, rows, row_of)

    def outer_row(index):
        return row_of(_row_at(counts, index))

    values, lengths, inner_nulls = _split(column, arrays, outer_row)
    if hasattr(values, "row_splits"):
        raise mismatch(column, None, "the ragged tensor has more dimensions than the column")
    if inner_nulls is not None:
        raise mismatch(column, outer_row(int(inner_nulls.argmax())), "an array inside an array cannot be null")
    flat = elements_of(column, values, lambda index: outer_row(_row_at(lengths, index)))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    bounds = np.concatenate([[0], np.cumsum(counts)])
    return {
        column.name: ColumnValues(flat, np.diff(ends[bounds]), nulls),
        column.row_lengths: ColumnValues(lengths, counts, nulls),
    }


_READERS = {"scalar": _scalars, "tensor": _tensors, "array": _arrays, "nested": _nested_arrays}


def _plain(column, rows):
    """Return a list or a ragged tensor for one of these; a numpy array for anything else."""
    import numpy as np

    if isinstance(rows, (list, tuple)):
        return list(rows)
    if hasattr(rows, "row_splits"):
        if not column.is_array:
            raise mismatch(column, None, "a ragged tensor is for arrays; this column has one value shape for all rows")
        return rows
    if isinstance(rows, (str, bytes, dict, set)):
        raise mismatch(column, None, "expected a list or array with one value per row, got {}".format(shown(rows)))
    if hasattr(rows, "dense_shape"):
        raise mismatch(column, None, "a SparseTensor cannot be written: convert it by tf.RaggedTensor.from_sparse(x)")
    if isinstance(rows, np.ma.MaskedArray):
        return rows.tolist()
    try:
        rows = rows.numpy() if callable(getattr(rows, "numpy", None)) else np.asarray(rows)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        problem = "{} holds no values yet: evaluate it first, for example with session.run".format(type(rows).__name__)
        raise mismatch(column, None, problem) from error
    if rows.shape == ():
        raise mismatch(column, None, "expected a list or array with one value per row, got {}".format(shown(rows)))
    return rows


def _checked_mask(column, present, count):
    import numpy as np

    present = np.asarray(present)
    if not column.nullable or present.dtype != bool or present.shape != (count,):
        problem = "{} must be an array of {} bools, and the column nullable".format(column.mask_name, count)
        raise mismatch(column, None, problem)
    return present


def _compress(rows, present):
    if hasattr(rows, "row_splits"):
        rows = rows.to_list()
    if isinstance(rows, list):
        return list(itertools.compress(rows, present.tolist()))
    return rows[present]


def _spread(cells, present):
    """Return the ColumnValues of the present rows as ColumnValues of all rows."""
    import numpy as np

    nulls = ~present
    lengths = np.zeros(len(present), np.int64)  # type: np.ndarray
    count = int(present.sum())
    lengths[present] = len(cells.values) // max(count, 1) if cells.lengths is None else cells.lengths
    if cells.nulls is not None:
        nulls[present] = cells.nulls
    return ColumnValues(cells.values, lengths, nulls)


def _drop_nulls(rows):
    """Return (rows that are not null, bool array with True for a null; None without a null)."""
    import numpy as np

    if not isinstance(rows, list):
        if rows.dtype.kind in "mM" and len(rows.shape) == 1:
            nulls = np.isnat(rows)
            return (rows[~nulls], nulls) if nulls.any() else (rows, None)
        if rows.dtype != object:
            return rows, None
        rows = list(rows)
    kinds = set(map(type, rows))
    if not any(kind.__name__ in ("NoneType", "datetime64", "timedelta64", "NaTType") for kind in kinds):
        return rows, None
    nulls = np.fromiter(map(is_null, rows), bool, len(rows))
    return (list(itertools.compress(rows, (~nulls).tolist())), nulls) if nulls.any() else (rows, None)


def _stack(column, rows, row_of):
    """Return one array of shape [rows, *shape]; each row is an array or a list."""
    import numpy as np

    kind = object if column.feature == "bytes" and not column.is_packed else None
    stacked = np.empty((0,) + column.shape, kind) if not rows else array_of(rows, kind)
    if stacked.shape[1:] != column.shape:
        for index, row in enumerate(rows):
            shape = array_of(row, kind).shape
            if shape != column.shape:
                raise mismatch(column, row_of(index), "shape {} is expected, got {}".format(column.shape, shape))
        flat = [array_of(row, object).reshape(-1) for row in rows]
        stacked = np.concatenate(flat).reshape((len(rows),) + column.shape)
    return stacked


def _split(column, rows, row_of):
    """Return (elements of all rows in order, int64 array of the rows' lengths, bool array of nulls or None)."""
    import numpy as np

    if hasattr(rows, "row_splits"):
        values = rows.values
        if not hasattr(values, "row_splits"):
            values = _plain(column, values)
        return values, np.diff(np.asarray(_plain(column, rows.row_splits), np.int64)), None
    if not isinstance(rows, list) and rows.dtype != object and len(rows):
        if len(rows.shape) < 2:
            raise mismatch(column, row_of(0), "an array is expected, got {}".format(shown(rows[0].item())))
        flat = rows.reshape((rows.shape[0] * rows.shape[1],) + rows.shape[2:])
        return flat, np.full(len(rows), rows.shape[1], np.int64), None
    rows, nulls = _without_none(list(rows))
    kinds = set(map(type, rows))
    if not kinds <= {list, tuple, np.ndarray}:
        rows = [_sequence(column, row, index, row_of) for index, row in enumerate(rows)]
        kinds = set(map(type, rows))
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    # Without the empty rows: numpy gives an empty list the dtype float64, which would widen the dtype of all rows.
    filled = [row for row in rows if len(row)]
    if kinds == {np.ndarray} and len({(row.dtype, row.shape[1:]) for row in filled}) == 1:
        return np.concatenate(filled), lengths, nulls
    return list(itertools.chain.from_iterable(filled)), lengths, nulls


def _without_none(rows):
    """Return (rows with each null as an empty row, bool array of nulls or None)."""
    import numpy as np

    if type(None) not in set(map(type, rows)):
        return rows, None
    nulls = np.fromiter((row is None for row in rows), bool, len(rows))
    return [() if row is None else row for row in rows], nulls


def _sequence(column, row, index, row_of):
    """Return one row's elements as a list, tuple or numpy array."""
    import numpy as np

    if isinstance(row, (list, tuple, np.ndarray)) and getattr(row, "shape", None) != ():
        return row
    if hasattr(row, "row_splits"):
        return row.to_list()
    if callable(getattr(row, "numpy", None)) and len(row.shape):
        return row.numpy()
    raise mismatch(column, row_of(index), "an array is expected, got {}".format(shown(row)))


def _row_at(lengths, index):
    """Return the row of the value at `index`."""
    import numpy as np

    return int(np.searchsorted(np.cumsum(lengths), index, side="right"))

"""`common_io.table` and `paiio`: readers of tables for scripts that read them themselves.

In comes the address of a table, `odps://project/tables/name/pt=1`, which pyodps reads in the script's environment; or
`feed://` for the run's own rows, and `feed://name` for a side input. Out go rows as tuples, or a Dataset.
"""

import sys

from beam_tfscript.runtime.compat.table_sources import open_source
from beam_tfscript.runtime.tf import tf_versions

__all__ = ["OutOfRangeException", "TableReader", "TableRecordDataset"]

# Rows per element of the generator behind a Dataset.
_BATCH_ROWS = 1024


class OutOfRangeException(Exception):
    """End of the rows of a table."""


class TableReader(object):
    """Reader of a table's rows, one after the other.

    Args:
      table: address of the table; `feed://` for the run's rows, `feed://name` for a side input.
      selected_cols: names of the columns, separated by commas; "" for all columns.
      excluded_cols: names of columns to leave out.
      slice_id, slice_count: the worker's slice of the table's rows. The run's own rows are its slice already.
      num_threads: ignored.
      capacity: ignored, but by `TableRecordDataset`: number of rows that are read at a time.

    Raises:
      ValueError: there is no such slice, column, partition or side input.
    """

    def __init__(
        self, table, selected_cols="", excluded_cols="", slice_id=0, slice_count=1, num_threads=0, capacity=1024
    ):
        self._source = open_source(table, selected_cols, excluded_cols, slice_id, slice_count)
        self._rest = []  # type: list
        self._has_begun = False
        self._start(0)

    def read(self, num_records=1, allow_smaller_final_batch=False):
        """Return the next rows, as a list of tuples; strings are bytes, and null is None.

        Args:
          num_records: number of rows; at the end there may be fewer.
          allow_smaller_final_batch: ignored: no row is dropped.

        Raises:
          OutOfRangeException: there is no further row. Where TensorFlow is loaded, it is a `tf.errors.OutOfRangeError`
            too.
        """
        rows = []  # type: list
        count = max(num_records, 1)
        if not self._has_begun:
            self._has_begun = True
            self._batches = self._source.batches(self.offset_pos - self._source.start, count)
        while len(rows) < count:
            if not self._rest:
                # In feeds whose rows come during the run, a request for more acknowledges those that were read.
                if rows and not self._source.fills:
                    break
                self._rest = next(self._batches, [])
                if not self._rest:
                    break
            missing = count - len(rows)
            rows += self._rest[:missing]
            self._rest = self._rest[missing:]
        self.offset_pos += len(rows)
        if not rows:
            raise _end_of_rows()
        return rows

    def seek(self, offset=0):
        """Go on with the row of this number of the slice, from 0.

        Raises:
          ValueError: the slice has no such row, or its rows come once only.
        """
        count = self.get_row_count()
        if not 0 <= offset <= count:
            raise ValueError("there is no row {}: the slice has {} rows".format(offset, count))
        self._stop()
        self._start(offset)

    def get_row_count(self):
        """Return the number of rows of the slice.

        Raises:
          ValueError: the number is not known, as rows come during the run.
        """
        return self._source.count()

    def get_schema(self):
        """Return a list of (name, type) of the columns."""
        return list(self._source.columns)

    @property
    def start_pos(self):
        """Number of the slice's first row in the table."""
        return self._source.start

    @property
    def end_pos(self):
        """Number of the row after the slice's last one."""
        return self._source.start + self.get_row_count()

    def close(self):
        """Close the connections."""
        self._stop()
        self._source.close()

    def _start(self, offset):
        self.offset_pos = self._source.start + offset
        self._batches = self._source.batches(offset, 1)
        self._rest = []
        self._has_begun = False

    def _stop(self):
        self._batches.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def TableRecordDataset(
    filenames,
    record_defaults,
    selected_cols=None,
    excluded_cols=None,
    slice_id=0,
    slice_count=1,
    num_threads=0,
    capacity=0,
):
    """Return a `tf.data.Dataset` of the rows of tables: one scalar per column.

    Args:
      filenames: address of a table, or a list of addresses; as for `TableReader`.
      record_defaults: one value, or dtype, per column; its dtype is that of the column, and the value replaces null.
      selected_cols, excluded_cols, slice_id, slice_count, num_threads, capacity: as for `TableReader`.

    Raises:
      ValueError: as for `TableReader`, or `record_defaults` is of another length.
    """
    import numpy as np
    import tensorflow as tf

    addresses = [filenames] if isinstance(filenames, (str, bytes)) else list(filenames)
    addresses = [part for address in addresses for part in _text(address).split(",") if part]
    defaults = [_default(tf, value) for value in record_defaults]
    for address in addresses:
        with TableReader(address, selected_cols or "", excluded_cols or "", slice_id, slice_count) as reader:
            names = [name for name, _ in reader.get_schema()]
        if len(names) != len(defaults):
            raise ValueError(
                "record_defaults has {} values, and {} has the columns {}: give one value per column, or "
                "selected_cols".format(len(defaults), _text(address), ", ".join(names))
            )

    def vectors():
        for address in addresses:
            source = open_source(address, selected_cols or "", excluded_cols or "", slice_id, slice_count)
            try:
                for rows in source.batches(0, capacity or _BATCH_ROWS):
                    yield tuple(
                        _vector(np, values, dtype, default) for values, (dtype, default) in zip(zip(*rows), defaults)
                    )
            finally:
                source.close()

    dtypes = tuple(dtype for dtype, _ in defaults)
    with tf_versions.in_default_graph(tf):
        shapes = tuple(tf.TensorShape([None]) for _ in defaults)
        dataset = tf.data.Dataset.from_generator(vectors, dtypes, shapes)
        return tf_versions.unbatched(tf, dataset)


def _default(tf, value):
    """Return (dtype, default) of a column."""
    if isinstance(value, tf.DType):
        return value, b"" if value == tf.string else 0
    dtype = value.dtype if hasattr(value, "dtype") else tf.convert_to_tensor(value).dtype
    dtype = tf.as_dtype(dtype)
    if hasattr(value, "numpy"):
        value = value.numpy()
    return dtype, value.encode("utf-8") if isinstance(value, type("")) else value


def _vector(np, values, dtype, default):
    values = [default if value is None else value for value in values]
    if dtype.as_numpy_dtype is not np.object_:
        return np.asarray(values, dtype.as_numpy_dtype)
    vector = np.empty(len(values), dtype=object)  # numpy would cut zero bytes at the end
    vector[:] = [value if isinstance(value, bytes) else str(value).encode("utf-8") for value in values]
    return vector


def _text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _end_of_rows():
    """Return the exception, as scripts with and without TensorFlow catch it."""
    errors = getattr(sys.modules.get("tensorflow"), "errors", None)
    if errors is None:
        return OutOfRangeException("no more rows")
    return type("EndOfRows", (OutOfRangeException, errors.OutOfRangeError), {})(None, None, "no more rows")

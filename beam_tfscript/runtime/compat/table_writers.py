"""`common_io.table` and `paiio`: a writer of tables for scripts that write them themselves.

In comes the address of a table or a partition, to which pyodps writes from the script's process; or `feed://` for the
run's output. Rows are tuples, with the positions of their columns.
"""

from beam_tfscript.runtime.compat.table_sources import FEED, open_tunnel, partition_spec
from beam_tfscript.runtime.config.current import get_config
from beam_tfscript.runtime.maxcompute import parse_address

__all__ = ["TableWriter"]

# Rows per block.
_BLOCK_ROWS = 10000


class TableWriter(object):
    """Writer of rows, which are appended when it is closed.

    A run that is tried again writes its rows to a table of MaxCompute again. Rows that are written to `feed://` go
    downstream once.

    Args:
      table: address of the table, or of a partition that exists; `feed://` for the run's output.
      slice_id: ignored: each writer has a session of its own.

    Raises:
      ValueError: there is no such table, or the transform has no output schema.
    """

    def __init__(self, table, slice_id=0):
        self._target = _FeedTarget() if table.startswith(FEED) else _ServiceTarget(table)
        self._is_open = True

    def write(self, values, indices, allow_type_cast=False):
        """Write one row, or several.

        Args:
          values: a tuple of a row's values, or a list of such tuples; None is null, and texts may be bytes.
          indices: position in the table of each value's column; other columns are null.
          allow_type_cast: ignored: values must fit.

        Raises:
          ValueError: the rows do not fit the table, or the writer is closed.
        """
        if not self._is_open:
            raise ValueError("the writer is closed")
        indices = [indices] if isinstance(indices, int) else list(indices)
        rows = [values] if isinstance(values, tuple) or not _is_rows(values) else list(values)
        for row in rows:
            if len(row) != len(indices):
                raise ValueError("a row has {} values, and indices names {} columns".format(len(row), len(indices)))
            self._target.write(dict(zip(indices, row)))

    def close(self):
        """Write the remaining rows, and commit them."""
        if self._is_open:
            self._is_open = False
            self._target.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.close()
        self._is_open = False


def _is_rows(values):
    return bool(len(values)) and isinstance(values[0], (tuple, list))


class _FeedTarget(object):
    """Output of the run."""

    def __init__(self):
        self._config = get_config()
        if self._config.output_schema is None:
            raise ValueError('feed:// needs an output: give the transform output_schema="…"')
        self._names = [column.name for column in self._config.output_schema]

    def write(self, row):
        """Write one row, a dict of position -> value."""
        values = dict.fromkeys(self._names)
        values.update((self._names[index], value) for index, value in row.items())
        self._config.write(**values)

    def close(self):
        """Send the written rows."""
        self._config.output_writer.flush()


class _ServiceTarget(object):
    """Table of MaxCompute."""

    def __init__(self, table):
        address = parse_address(table)
        self._tunnel, found = open_tunnel(address)
        self._session = self._tunnel.create_upload_session(found, partition_spec=partition_spec(address))
        self._columns = list(self._session.schema.simple_columns)
        self._rows = []
        self._blocks = []

    def write(self, row):
        """Write one row, a dict of position -> value."""
        self._rows.append([_plain(row.get(index), column) for index, column in enumerate(self._columns)])
        if len(self._rows) >= _BLOCK_ROWS:
            self._flush()

    def close(self):
        """Commit all rows."""
        self._flush()
        self._session.commit(self._blocks)
        self._tunnel.tunnel_rest.session.close()

    def _flush(self):
        from odps.config import option_context

        if not self._rows:
            return
        rows, self._rows = self._rows, []
        block = len(self._blocks)
        with option_context({"local_timezone": False}), self._session.open_arrow_writer(block) as writer:
            # pyodps knows the Arrow types of the table's columns.
            empty = writer._arrow_schema.empty_table()
            columns = dict(zip(empty.schema.names, map(list, zip(*rows))))
            writer.write(empty.from_pydict(columns, schema=empty.schema))
        self._blocks.append(block)


def _plain(value, column):
    """Return a value as Arrow takes it: numpy's scalars and bytes of texts become Python's values."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bytes) and column.type.name != "binary":
        return value.decode("utf-8")
    return value

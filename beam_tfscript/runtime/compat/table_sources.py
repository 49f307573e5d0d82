"""Rows of tables for readers in scripts: from the run's feed, or from MaxCompute by pyodps.

In come an address, columns and a slice. Out come batches, which are lists of tuples.
"""

from beam_tfscript.runtime import maxcompute
from beam_tfscript.runtime.config.current import get_config
from beam_tfscript.runtime.docs import page

FEED = "feed://"


def open_source(table, selected_cols, excluded_cols, slice_id, slice_count):
    """Return the source of a table's rows.

    Args:
      table: address of a table; `feed://` for the run's rows, `feed://name` for a side input.
      selected_cols, excluded_cols: names of columns, separated by commas.
      slice_id, slice_count: number of the slice, and number of slices.

    Raises:
      ValueError: the address, a column, a partition or the slice does not exist.
    """
    selected, excluded = names_of(selected_cols), names_of(excluded_cols)
    if table.startswith(FEED):
        return _FeedSource(table[len(FEED) :].strip("/"), selected, excluded)
    return _ServiceSource(table, selected, excluded, slice_id, slice_count)


def names_of(text):
    """Return the names in a text, or in a list."""
    parts = text.split(",") if isinstance(text, str) else list(text)
    return [part.strip() for part in parts if part.strip()]


def choose(columns, selected, excluded, table):
    """Return the (name, type) pairs that are chosen, in the order of `selected`, else in that of the table.

    Raises:
      ValueError: there is no such column.
    """
    types = dict(columns)
    for name in selected + excluded:
        if name not in types:
            raise ValueError("{} has no column {!r}; its columns are {}".format(table, name, ", ".join(types)))
    names = selected or [name for name, _ in columns]
    return [(name, types[name]) for name in names if name not in excluded]


class _FeedSource(object):
    """Rows of the run, or of a side input.

    Attributes:
      columns: list of (name, type).
      start: 0; the rows are the worker's slice already.
      fills: True if rows of two batches may be read at once.
    """

    start = 0

    def __init__(self, name, selected, excluded):
        self._config = get_config()
        self._name = name
        # Rows that come during the run are acknowledged batch by batch.
        self.fills = bool(name) or self._config.feed is None
        schema = self._config._side_columns(name) if name else self._config._input_columns("feed://")
        known = [(column.name, column.type) for column in schema]
        self.columns = choose(known, selected, excluded, FEED + name)

    def count(self):
        """Return the number of rows."""
        if self._name or not hasattr(self._config, "dataset_length") or self._config.feed is not None:
            raise ValueError(
                'the number of rows is known in feed="dataset" only, and for the run\'s own rows: see {}'.format(
                    page("maxcompute")
                )
            )
        return self._config.dataset_length

    def batches(self, offset, n):
        """Yield lists of up to `n` tuples, from a row on."""
        if self._name:
            found = self._config.side_batches(self._name, n, masks=True)
        else:
            if offset:
                self.count()  # rows that come during the run come once
            found = self._config.batches(n, masks=True)
        for batch in found:
            rows = list(zip(*[self._values(batch, name) for name, _ in self.columns]))
            passed = min(offset, len(rows))
            offset -= passed
            if rows[passed:]:
                yield rows[passed:]

    def close(self):
        """Do nothing."""

    def _values(self, batch, name):
        """Return a column as a list of Python's values; None is null."""
        values = batch[name].tolist()
        present = batch.get(name + "__present")
        if present is None:
            return values
        return [value if is_there else None for value, is_there in zip(values, present.tolist())]


class _ServiceSource(object):
    """Slice of the rows of a table of MaxCompute.

    Attributes:
      columns: list of (name, type).
      start: number of the slice's first row in the table.
      fills: True; rows of two batches may be read at once.
    """

    fills = True

    def __init__(self, table, selected, excluded, slice_id, slice_count):
        self._table = table
        self._tunnel, self._session = open_download(table)
        schema = self._session.schema
        known = [(column.name, column.type.name) for column in schema.simple_columns]
        self.columns = choose(known, selected, excluded, table)
        self.start, self._end = maxcompute.slice_of(self._session.count, slice_id, slice_count)

    def count(self):
        """Return the number of rows."""
        return self._end - self.start

    def batches(self, offset, n):
        """Yield lists of tuples, from a row on; the service chooses their length."""
        from odps.config import option_context

        start, count = self.start + offset, self.count() - offset
        if not count:
            return
        names = [name for name, _ in self.columns]
        reader = self._session.open_arrow_reader(start, count, columns=names)
        try:
            while True:
                # pyodps would turn times into those of this machine's time zone.
                with option_context({"local_timezone": False}):
                    batch = reader.read_next_batch()
                if batch is None:
                    return
                rows = list(zip(*[_bytes(batch.column(batch.schema.get_field_index(name))) for name in names]))
                if rows:
                    yield rows
        finally:
            reader.close()

    def close(self):
        """Close the connections."""
        self._tunnel.tunnel_rest.session.close()


def open_download(table):
    """Return (pyodps's tunnel, a download session) of a table.

    Raises:
      ValueError: the text is no address, or there are no such table, partition or credentials.
    """
    address = maxcompute.parse_address(table)
    tunnel, found = open_tunnel(address)
    return tunnel, _call(
        lambda: tunnel.create_download_session(found, partition_spec=partition_spec(address)), "read", address
    )


def open_tunnel(address):
    """Return (pyodps's tunnel, pyodps's table).

    Raises:
      ValueError: there are no such table or credentials, or a partition is missing.
    """
    try:
        odps = maxcompute.connect(address.project)
    except maxcompute.ConnectionSettingsMissing as missing:
        raise ValueError(str(missing)) from None
    from odps.tunnel import TableTunnel

    def look_up():
        table = odps.get_table(address.table, project=address.project, **_schema(address))
        table.reload()
        return table

    table = _call(look_up, "looked up", address)
    names = [column.name for column in table.table_schema.partitions or ()]
    if [name for name, _ in address.partition] != names:
        raise ValueError(
            "{} must name one partition of the table, by {}".format(
                address, "/".join(n + "=…" for n in names) or "none"
            )
        )
    odps.rest.session.close()
    return TableTunnel(odps), table


def partition_spec(address):
    """Return an address's partition as pyodps takes it; None for a table without partitions."""
    return ",".join("{}={}".format(*pair) for pair in address.partition) or None


def _schema(address):
    return {} if address.schema is None else {"schema": address.schema}


def _call(action, name, address):
    """Return the result of a call; its errors are raised without credentials."""
    from odps.errors import ODPSError

    try:
        return action()
    except ODPSError as error:
        raise ValueError("{} cannot be {}: {}".format(address, name, maxcompute.mask_credentials(str(error)))) from None


def _bytes(array):
    """Return an Arrow array as a list; texts are bytes, as TensorFlow has them."""
    return [value.encode("utf-8") if isinstance(value, str) else value for value in array.to_pylist()]

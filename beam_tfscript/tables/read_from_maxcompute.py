"""`ReadFromMaxCompute`: a table of MaxCompute as a PCollection of rows or of Arrow batches."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_tfscript.data.schema import Schema
from beam_tfscript.dofns.decode_output import elements_of, output_type
from beam_tfscript.errors import ArgumentError, TableError
from beam_tfscript.runtime.maxcompute import TableAddress, has_credentials
from beam_tfscript.tables.addresses import address_of, address_of_uri, conditions_of, partition_text, table_text
from beam_tfscript.tables.apis import check_api, first_that_answers, open_sessions
from beam_tfscript.tables.client import ATTEMPTS, connected, is_transient, pause, translated
from beam_tfscript.tables.sessions import ReadPlan, Sessions, Split
from beam_tfscript.tables.table import describe, find_partitions
from beam_tfscript.tables.table_batches import to_schema

__all__ = ["ReadFromMaxCompute"]

_FORMS = ("row", "dict", "record_batch")
# A split that ends early, or in the middle of a batch, raises one of these.
_CUT_SHORT = (pa.ArrowInvalid, OSError)


class ReadFromMaxCompute(beam.PTransform):
    """Read a table of MaxCompute in parallel splits.

    The table is looked up while the pipeline is built, so that its columns are known and mistakes are found. Endpoint
    and credentials come from the environment, here and on the workers: docs/maxcompute.md lists the variables. They are
    never in the pipeline's graph, its log or its display data.

    Args:
      project: name of the project.
      table: name of the table, or `schema.table` in projects with schemas.
      partitions: the partitions to read: one, or a list of them, as `"pt=20240131"`, `"pt=20240131/region=cn"` or a
        dict. The first columns are enough, and `"pt>=20240101"` is a range. None reads all partitions.
      columns: names of the columns to read, those of partitions included, in order; None for all columns.
      filter: SQL condition of the rows, such as `"age > 30 and city = 'x'"`, which the service applies; needs the
        Storage API.
      schema: the columns with their types, as text or `Schema`, in place of `columns`. Give it for types that differ
        from the table's, such as `x tensor<float>(28, 28)`. It is also needed if the table cannot be looked up while
        the pipeline is built.
      as_json: names of columns of maps, structs and deep arrays, which are read as JSON text.
      output_as: form of the elements: `"row"`, with a Beam schema; `"dict"`; or `"record_batch"`, a
        `pyarrow.RecordBatch` of many rows, which RunTFScript and TrainTFScript take fastest.
      rows_per_split: number of rows per split, about.
      api: `"storage"` for the Storage API, `"tunnel"` for the tunnel, or `"auto"` for the tunnel where the service
        refuses the Storage API.

    Raises:
      ArgumentError: an argument cannot be used, or there is no such table or partition; while the pipeline is built.
      SchemaError: there is no such column, or its type has no counterpart; while the pipeline is built.
    """

    def __init__(
        self,
        project: str,
        table: str,
        partitions: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]] | None = None,
        columns: Sequence[str] | None = None,
        filter: str | None = None,
        *,
        schema: str | Schema | None = None,
        as_json: Sequence[str] = (),
        output_as: str = "row",
        rows_per_split: int = 250_000,
        api: str = "auto",
    ):
        super().__init__()
        if output_as not in _FORMS:
            raise ArgumentError(f"output_as must be one of {', '.join(map(repr, _FORMS))}, got {output_as!r}.")
        if not isinstance(rows_per_split, int) or rows_per_split < 1:
            raise ArgumentError(f"rows_per_split must be a positive integer, got {rows_per_split!r}.")
        if schema is not None and columns is not None:
            raise ArgumentError("columns and schema both name the columns: leave one out.")
        for name, value in (("columns", columns), ("as_json", as_json)):
            if isinstance(value, str):
                raise ArgumentError(f"{name} must be a list of names, got the text {value!r}: write [{value!r}].")
        check_api(api)
        if filter and api == "tunnel":
            raise ArgumentError("filter needs the Storage API: the tunnel has no filters. Leave out api or filter.")
        address = address_of(project, table)
        conditions = conditions_of(partitions)
        given = Schema.parse(schema) if isinstance(schema, str) else schema
        known = self._look_up(address, conditions, given, columns, as_json)
        chosen = known or given
        assert chosen is not None  # if none is given, the table was looked up
        self._schema = chosen
        self._output_as = output_as
        self.reading = _Reading(
            address, conditions, self._schema, tuple(as_json), filter or "", rows_per_split, api, output_as
        )

    @classmethod
    def from_uri(cls, uri: str, **arguments: Any) -> "ReadFromMaxCompute":
        """Return the transform for `odps://project/tables/name`, with a partition behind it if only that is read.

        Args:
          uri: the address.
          **arguments: further arguments.

        Raises:
          ArgumentError: the text is not such an address; else as for the class.
        """
        address = address_of_uri(uri)
        if address.partition and arguments.get("partitions"):
            raise ArgumentError(f"{uri} names a partition: leave out partitions.")
        if address.partition:
            arguments["partitions"] = partition_text(address.partition)
        return cls(address.project, table_text(address), **arguments)

    @property
    def schema(self) -> Schema:
        """The columns of the elements."""
        return self._schema

    def display_data(self) -> dict[str, Any]:
        """Return the display items of a job's page."""
        reading = self.reading
        return {
            "table": str(reading.address),
            "partitions": ", ".join(reading.conditions) or "all",
            "columns": str(self._schema),
        }

    def expand(self, pipeline):
        """Add the session, its splits, and the reads."""
        rows = (
            pipeline
            | "Begin" >> beam.Create([None])
            | "Split" >> beam.ParDo(_PlanSplits(self.reading)).with_output_types(Split)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(_ReadSplits(self.reading))
        )
        rows.element_type = output_type(self._schema, self._output_as)
        return rows

    @staticmethod
    def _look_up(
        address: TableAddress,
        conditions: Sequence[str],
        given: Schema | None,
        columns: Sequence[str] | None,
        as_json: Sequence[str],
    ) -> Schema | None:
        """Return the columns as the service has them; None if it cannot be asked, or if they are given."""
        if given is not None and not has_credentials():
            return None
        with connected(address.project, ArgumentError) as odps:
            table = describe(odps, address, ArgumentError)
            find_partitions(odps, table, conditions, ArgumentError)
            if given is None:
                return table.schema(columns, as_json)
            table.check_names([*given.names, *as_json])
            return None


class _Reading:
    """Table that is read; can be pickled.

    Attributes:
      address: the table.
      conditions: conditions of the partitions.
      schema: the columns.
    """

    def __init__(
        self,
        address: TableAddress,
        conditions: Sequence[str],
        schema: Schema,
        as_json: Sequence[str],
        row_filter: str,
        rows_per_split: int,
        api: str,
        output_as: str,
    ):
        self.address = address
        self.conditions = conditions
        self.schema = schema
        self._as_json = as_json
        self._filter = row_filter
        self._rows_per_split = rows_per_split
        self._api = api
        self._output_as = output_as

    def plan(self, odps: Any) -> list[Split]:
        """Create the session, and return its splits."""
        table = describe(odps, self.address, TableError)
        partitions = find_partitions(odps, table, self.conditions, TableError)
        if table.partition_columns and not partitions:
            return []
        names = self.schema.names
        plan = ReadPlan(
            [name for name, _ in table.columns if name in names],
            [name for name in table.partition_names if name in names],
            partitions,
            self._filter,
            self._rows_per_split,
        )
        with translated(f"The table {table.name} cannot be read"):
            return first_that_answers(
                odps, self.address, self._api, plan.columns, lambda sessions: sessions.plan_read(plan)
            )

    def open(self, odps: Any, api: str) -> Sessions:
        """Return the sessions of an interface."""
        return open_sessions(odps, self.address, api, self.schema.names)

    def read(self, sessions: Sessions, split: Split) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a split as the service sends them, each once, whatever fails in between.

        Raises:
          TableError: the service refuses, or a retry has not helped.
        """
        name = f"Reading {self.address}, row {split.start} to {split.start + split.rows}"
        done, failures = 0, 0
        with translated(f"The table {self.address} cannot be read"):
            while done != split.rows:
                try:
                    batches = sessions.read(split, done)
                    if split.rows < 0:
                        # Nothing says that its rows come in the same order next time: it is given when it is whole.
                        batches = iter(list(batches))
                    for batch in batches:
                        yield batch
                        done, failures = done + batch.num_rows, 0
                    if split.rows in (-1, done):
                        return
                    raise ConnectionError(f"{done} of {split.rows} rows came")
                except Exception as error:
                    failures += 1
                    if not (is_transient(error) or isinstance(error, _CUT_SHORT)):
                        raise
                    if failures == ATTEMPTS:
                        if is_transient(error):
                            raise
                        raise ConnectionError(f"{type(error).__name__}: {error}") from None
                    pause(failures, name, error)

    def elements(self, batch: pa.RecordBatch) -> Iterable[Any]:
        """Return the elements of a batch of the table."""
        return elements_of(to_schema(batch, self.schema, self._as_json), self.schema, self._output_as)


class _PlanSplits(beam.DoFn):
    """Nothing -> the splits of a new read session."""

    def __init__(self, reading: _Reading):
        self._reading = reading

    def process(self, _: Any) -> Iterator[Any]:
        """Create the session."""
        with connected(self._reading.address.project) as odps:
            yield from self._reading.plan(odps)


class _ReadSplits(beam.DoFn):
    """Splits -> their rows."""

    def __init__(self, reading: _Reading):
        self._reading = reading

    def process(self, split: Any) -> Iterator[Any]:
        """Read one split."""
        with connected(self._reading.address.project) as odps:
            sessions = self._reading.open(odps, split.api)
            try:
                for batch in self._reading.read(sessions, Split(*split)):
                    yield from self._reading.elements(batch)
            finally:
                sessions.close()

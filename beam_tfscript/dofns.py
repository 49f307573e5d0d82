"""The life of a bundle: rows into chunks before the shuffle, one run a shard after it."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils.windowed_value import WindowedValue

from beam_tfscript import metrics
from beam_tfscript.attempts import ShardRun, make_spec
from beam_tfscript.bad_records import BadRecords
from beam_tfscript.data.encoding import Encoded, RowEncoder
from beam_tfscript.display import display_items
from beam_tfscript.errors import TFScriptError
from beam_tfscript.options import ScriptOptions
from beam_tfscript.outputs import OutputMaker
from beam_tfscript.runtime import wire
from beam_tfscript.script.environment import find_interpreter
from beam_tfscript.script.staging import stage_files, stage_runtime
from beam_tfscript.sharding import Chunk, Chunker, shards_of
from beam_tfscript.worker.pool import ProcessPool, get_pool

# The vectorised path is at its best from some thousand rows on; more would only hold memory.
_MAX_ROWS_BUFFERED = 4096
# The first rows of a DoFn are of unknown size.
_FIRST_ROWS_BUFFERED = 64
_TARGET_BYTES_BUFFERED = 2 << 20

_staging_lock = threading.Lock()


class _UsesScript(beam.DoFn):
    """A DoFn that needs script processes: one of their users for as long as it is set up."""

    _pool: ProcessPool | None = None

    def __init__(self, options: ScriptOptions):
        self._options = options

    def setup(self) -> None:
        """Asks the harness' pool for a process, whose start then overlaps with what comes first."""
        self._pool = get_pool()
        self._pool.register(self._options.key, self)
        try:
            directory = os.path.join(self._pool.scratch(), f"script-{self._options.key}")
            runtime = stage_once(stage_runtime, directory, "runtime")
            self._stage(directory)
            self._spec = make_spec(self._options, find_interpreter(), runtime)
            self._pool.warm(self._spec)
        except TFScriptError:
            # Beam does not tear down what it could not set up.
            self.teardown()
            raise

    def teardown(self) -> None:
        """Ends what this instance still leases; the last instance ends the idle processes too."""
        if self._pool is not None:
            self._pool.unregister(self._options.key, self)
            self._pool = None

    def _stage(self, directory: str) -> None:
        """Stages what else is needed on this worker."""


class ChunkRows(_UsesScript):
    """Rows of the global window -> (shard, (count, TFRecord bytes)).

    Windowed rows go through `ChunkWindowedRows`: asking Beam for each row's window costs as much as all
    that is done here.
    """

    _limit = _FIRST_ROWS_BUFFERED

    def __init__(self, options: ScriptOptions, encoder: RowEncoder, bad: BadRecords | None):
        # The script's files would be in the graph a second time.
        super().__init__(options.without_files())
        self._encoder = encoder
        self._bad = bad

    def start_bundle(self) -> None:
        """Begins with no rows, at a shard that differs from bundle to bundle."""
        self._rows: list[Any] = []
        self._chunker = Chunker(self._options.num_workers, random.randrange(self._options.num_workers))

    def process(self, row: Any) -> Iterable[Any]:
        """Takes one row; now and then there are chunks to give out."""
        self._rows.append(row)
        return self._encode_rows() if len(self._rows) >= self._limit else ()

    def finish_bundle(self) -> Iterator[Any]:
        """Gives out the rest."""
        window = GlobalWindow()
        for output in self._encode_rows():
            yield _in_window(output, window)
        for chunk in self._chunker.flush():
            yield _in_window(_keyed(chunk), window)

    def _encode_rows(self) -> Iterator[Any]:
        rows, self._rows = self._rows, []
        encoded = self._encode(rows)
        for index, error in encoded.bad:
            yield self._record(rows[index], error)
        shards = self._shards(encoded)
        yield from map(_keyed, self._chunker.add(encoded.examples, shards=shards))

    def _encode(self, rows: Any) -> Encoded:
        encoded = self._encoder.encode(rows, keep_going=self._bad is not None)
        size = sum(map(len, encoded.examples))
        metrics.add("rows_in", len(encoded.examples))
        metrics.add("bytes_in", size)
        metrics.add("doubles_rounded", encoded.doubles_rounded)
        self._limit = _next_limit(self._limit, len(encoded.examples), size)
        return encoded

    def _shards(self, encoded: Encoded) -> list[int] | None:
        return None if encoded.keys is None else shards_of(encoded.keys, self._options.num_workers)

    def _record(self, row: Any, error: Exception) -> TaggedOutput:
        assert self._bad is not None
        metrics.add("rows_bad")
        return self._bad.record(row, error)


class ChunkWindowedRows(ChunkRows):
    """Rows of any windows -> (shard, (count, TFRecord bytes)), the chunks of a window in that window."""

    def start_bundle(self) -> None:
        """Begins with no rows."""
        super().start_bundle()
        self._windows: list[Any] = []

    def process(self, row: Any, window: Any = beam.DoFn.WindowParam) -> Iterable[Any]:
        """Takes one row with its window; now and then there are chunks to give out."""
        self._windows.append(window)
        return super().process(row)

    def finish_bundle(self) -> Iterator[Any]:
        """Gives out the rest."""
        yield from self._encode_rows()
        for chunk in self._chunker.flush():
            yield _in_window(_keyed(chunk), chunk.window)

    def _encode_rows(self) -> Iterator[Any]:
        rows, self._rows = self._rows, []
        windows, self._windows = self._windows, []
        # All windows' rows are encoded at once: there may be many windows with a few rows each.
        encoded = self._encode(rows)
        for index, error in encoded.bad:
            yield _in_window(self._record(rows[index], error), windows[index])
        for window, examples, shards in _by_window(encoded, self._shards(encoded), windows):
            for chunk in self._chunker.add(examples, window=window, shards=shards):
                yield _in_window(_keyed(chunk), chunk.window)


class ChunkBatches(ChunkRows):
    """Arrow record batches and tables -> (shard, (count, TFRecord bytes)), never taken apart into rows."""

    def process(self, batch: Any, window: Any = beam.DoFn.WindowParam) -> Iterable[Any]:
        """Takes one batch with its window; a large one is encoded in slices."""
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, self._limit)
            start += part.num_rows
            encoded = self._encode(part)
            for index, error in encoded.bad:
                yield _in_window(self._record(part.slice(index, 1), error), window)
            for chunk in self._chunker.add(encoded.examples, window=window, shards=self._shards(encoded)):
                yield _in_window(_keyed(chunk), chunk.window)

    def finish_bundle(self) -> Iterator[Any]:
        """Gives out the rest."""
        for chunk in self._chunker.flush():
            yield _in_window(_keyed(chunk), chunk.window)


class RunShard(_UsesScript):
    """(shard, its chunks) -> the rows that one run of the script writes.

    Args:
      options: the transform's arguments.
      bad: what to do with outputs that do not fit; None fails the bundle.
      stamp: whether outputs must be given the window's end as timestamp, since Beam's GroupByKey was
        told to give them another.
    """

    def __init__(self, options: ScriptOptions, bad: BadRecords | None, *, stamp: bool):
        super().__init__(options)
        self._bad = bad
        self._stamp = stamp

    def setup(self) -> None:
        """Makes what decodes the outputs."""
        super().setup()
        schema = self._options.output_schema
        self._outputs = None if schema is None else OutputMaker(schema, self._options.output_as)

    def display_data(self) -> dict[str, Any]:
        """The transform's arguments: of a composite's display data, services keep only that of its steps."""
        return display_items(self._options)

    def process(
        self, element: tuple[int, Iterable[tuple[int, bytes]]], window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        """Runs the script over one shard's rows of one window."""
        shard, chunks = element
        assert self._pool is not None
        run = ShardRun(self._options, self._spec, pool=self._pool, staged=self._files, user=self)
        for report in run.reports(shard, _bounds(window), chunks):
            if report.kind == wire.METRICS:
                metrics.add_from_script(report.json())
            elif self._stamp:
                end = window.max_timestamp()
                for row in self._decode(report):
                    yield row if isinstance(row, TaggedOutput) else TimestampedValue(row, end)
            else:
                yield from self._decode(report)

    def _stage(self, directory: str) -> None:
        self._files = stage_once(lambda path: stage_files(self._options.files, path), directory, "files")

    def _decode(self, report: wire.Frame) -> Iterable[Any]:
        """The rows of one EXAMPLES frame, and the bad records."""
        assert self._outputs is not None
        examples = report.records()
        metrics.add("bytes_out", len(report.payload) - 4 * report.count)
        if self._bad is None:
            metrics.add("rows_out", report.count)
            return self._outputs.make(examples)
        outputs, bad = self._outputs.make_good(examples)
        metrics.add("rows_out", report.count - len(bad))
        metrics.add("rows_bad", len(bad))
        return [*outputs, *(self._bad.record(example, error) for example, error in bad)]


def stage_once(stage: Callable[[str], None], directory: str, name: str) -> str:
    """Calls `stage` for a directory of that name, the first time in this harness; returns where it is."""
    target = os.path.join(directory, name)
    with _staging_lock:
        if not os.path.isdir(target):
            # A half-staged directory is never taken for a whole one.
            with tempfile.TemporaryDirectory(dir=os.path.dirname(directory)) as parent:
                stage(os.path.join(parent, name))
                os.makedirs(directory, exist_ok=True)
                os.rename(os.path.join(parent, name), target)
    return target


def _keyed(chunk: Chunk) -> tuple[int, tuple[int, bytes]]:
    return chunk.shard, (chunk.count, chunk.payload)


def _in_window(output: Any, window: Any) -> Any:
    """The output in its window, at the window's end: never late, and what a GroupByKey makes of it anyway."""
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, WindowedValue(output.value, window.max_timestamp(), [window]))
    return WindowedValue(output, window.max_timestamp(), [window])


def _by_window(
    encoded: Encoded, shards: list[int] | None, windows: list[Any]
) -> Iterator[tuple[Any, list[bytes], list[int] | None]]:
    """The Examples and their shards, a window at a time."""
    if encoded.bad:
        bad = {index for index, _ in encoded.bad}
        windows = [window for index, window in enumerate(windows) if index not in bad]
    positions: dict[Any, list[int]] = {}
    for position, window in enumerate(windows):
        positions.setdefault(window, []).append(position)
    for window, chosen in positions.items():
        own_shards = None if shards is None else [shards[position] for position in chosen]
        yield window, [encoded.examples[position] for position in chosen], own_shards


def _next_limit(limit: int, rows: int, size_bytes: int) -> int:
    """How many rows to gather next: at most twice as many as now, and about two mebibytes of Examples."""
    if not rows:
        return limit
    fitting = _TARGET_BYTES_BUFFERED * rows // max(size_bytes, 1)
    return max(1, min(2 * limit, fitting, _MAX_ROWS_BUFFERED))


def _bounds(window: Any) -> tuple[float, float] | None:
    if isinstance(window, GlobalWindow):
        return None
    start = getattr(window, "start", window.end)
    return start.micros / 1e6, window.end.micros / 1e6

"""Rows -> chunks before the shuffle: the DoFns that buffer, encode and deal them out."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from beam_tfscript.data import tfrecord
from beam_tfscript.data.chunks import Chunk, Chunker, shards_of
from beam_tfscript.data.encoding import ARROW, Encoded, RowEncoder
from beam_tfscript.dofns.dead_letters import BadRecords
from beam_tfscript.dofns.row_gatherer import RowGatherer
from beam_tfscript.dofns.row_windows import RowPlaces, choose
from beam_tfscript.dofns.script_dofns import UsesScript, in_window
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.runtime.transport import wire


class ChunkRows(UsesScript):
    """Rows of the global window -> (shard, (count, bytes)); in `stream` and clusters, (key, (shard, count, bytes)).

    The bytes are TFRecords where the script reads a file, else what is sent to it. Windowed rows go through
    `ChunkWindowedRows`: asking Beam for a row's window costs as much as all that is done here.
    """

    def __init__(self, options: ScriptOptions, encoder: RowEncoder, bad: BadRecords | None):
        # The script's files would be in the graph a second time.
        super().__init__(options.without_files())
        self._encoder = encoder
        self._bad = bad
        self._keyed: Callable[[Chunk], Any] = _by_shard
        if options.cluster is not None:
            self._keyed = _by_cluster
        elif options.feed == "stream":
            self._keyed = _by_shard_of_stream

    def start_bundle(self) -> None:
        """Begins with no rows, at a shard that differs from bundle to bundle."""
        self._rows: list[Any] = []
        self._gatherer = RowGatherer(self._encoder, self._bad)
        num_shards = self._options.num_workers
        pack = wire.pack_records if self._options.feed == "stream" else tfrecord.frame
        self._chunker = Chunker(num_shards, random.randrange(num_shards), pack)

    def process(self, row: Any) -> Iterable[Any]:
        """Takes one row, or an Arrow batch of rows; now and then there are chunks to give out."""
        if isinstance(row, ARROW):
            return self._encode_batch(row)
        self._rows.append(row)
        return self._encode_rows() if len(self._rows) >= self._gatherer.limit else ()

    def finish_bundle(self) -> Iterator[Any]:
        """Gives out the rest."""
        window = GlobalWindow()
        for output in self._encode_rows():
            yield in_window(output, window, window.max_timestamp())
        for chunk in self._chunker.flush():
            yield in_window(self._keyed(chunk), window, window.max_timestamp())

    def _encode_rows(self) -> Iterator[Any]:
        rows, self._rows = self._rows, []
        encoded = self._gatherer.encode(rows)
        for index, error in encoded.errors:
            yield self._gatherer.record(rows[index], error)
        yield from map(self._keyed, self._chunker.add(encoded.examples, shards=self._shards(encoded)))

    def _encode_batch(self, batch: Any) -> Iterator[Any]:
        """Encodes an Arrow batch or table in slices, never taken apart into rows."""
        for part, encoded in self._gatherer.encode_batch(batch):
            for index, error in encoded.errors:
                yield self._gatherer.record(part.slice(index, 1), error)
            yield from map(self._keyed, self._chunker.add(encoded.examples, shards=self._shards(encoded)))

    def _shards(self, encoded: Encoded) -> list[int] | None:
        return None if encoded.keys is None else shards_of(encoded.keys, self._options.num_workers)


class ChunkWindowedRows(ChunkRows):
    """Rows of any windows -> (shard, (count, bytes)), the chunks of a window in that window.

    A chunk is at its window's last timestamp, which is never late, and what a GroupByKey makes of it anyway; in the
    global window, where that would be the end of time, at that of the newest row.
    """

    def start_bundle(self) -> None:
        """Begins with no rows."""
        super().start_bundle()
        self._places = RowPlaces()
        self._newest: Any = None

    def process(self, row: Any, place: Any = beam.DoFn.WindowedValueParam) -> Iterable[Any]:
        """Takes one row, or an Arrow batch, with its windows; now and then there are chunks to give out."""
        if isinstance(row, ARROW):
            return self._encode_batch_in(row, place)
        self._places.add(place)
        return super().process(row)

    def finish_bundle(self) -> Iterator[Any]:
        """Gives out the rest."""
        yield from self._encode_rows()
        for chunk in self._chunker.flush():
            yield self._place(self._keyed(chunk), chunk.window)

    def _encode_rows(self) -> Iterator[Any]:
        rows, self._rows = self._rows, []
        places, self._places = self._places, RowPlaces()
        if not rows:
            return
        newest = Timestamp(micros=max(places.micros))
        self._newest = newest if self._newest is None else max(self._newest, newest)
        # All windows' rows are encoded at once: there may be many windows with a few rows each.
        encoded = self._gatherer.encode(rows)
        for index, error in encoded.errors:
            for window in places.of_row(index).windows:
                yield self._place(self._gatherer.record(rows[index], error), window)
        shards = self._shards(encoded)
        for window, chosen in places.without(dict(encoded.errors)).by_window():
            own_shards = None if shards is None else choose(shards, chosen)
            for chunk in self._chunker.add(choose(encoded.examples, chosen), window=window, shards=own_shards):
                yield self._place(self._keyed(chunk), chunk.window)

    def _encode_batch_in(self, batch: Any, place: Any) -> Iterator[Any]:
        """Encodes an Arrow batch in slices; its rows are in the batch's windows."""
        self._newest = place.timestamp if self._newest is None else max(self._newest, place.timestamp)
        for part, encoded in self._gatherer.encode_batch(batch):
            shards = self._shards(encoded)
            for window in place.windows:
                for index, error in encoded.errors:
                    yield self._place(self._gatherer.record(part.slice(index, 1), error), window)
                for chunk in self._chunker.add(encoded.examples, window=window, shards=shards):
                    yield self._place(self._keyed(chunk), chunk.window)

    def _place(self, output: Any, window: Any) -> Any:
        is_global = isinstance(window, GlobalWindow)
        return in_window(output, window, self._newest if is_global else window.max_timestamp())


def _by_shard(chunk: Chunk) -> tuple[int, tuple[int, bytes]]:
    return chunk.shard, (chunk.count, chunk.payload)


def _by_shard_of_stream(chunk: Chunk) -> tuple[int, tuple[int, int, bytes]]:
    return chunk.shard, (chunk.shard, chunk.count, chunk.payload)


def _by_cluster(chunk: Chunk) -> tuple[int, tuple[int, int, bytes]]:
    """All shards of a window are one cluster."""
    return 0, (chunk.shard, chunk.count, chunk.payload)

"""Rows to chunks, before the shuffle: DoFns that buffer rows, encode them and assign them to shards."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import random
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from beam_tfscript.data.chunks import Chunk, Chunker, shards_of
from beam_tfscript.data.encoding import BATCHES, Encoded, RowEncoder, element_of_batch
from beam_tfscript.data.example_chunk import frame_examples, pack_examples
from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.row_gatherer import RowGatherer
from beam_tfscript.dofns.row_windows import RowWindows, values_at
from beam_tfscript.dofns.script_dofns import UsesScript, in_window
from beam_tfscript.dofns.spool_chunks import ChunkSpool
from beam_tfscript.options.script_options import ScriptOptions


class ChunkRows(UsesScript):
    """Rows of the global window -> (key, (shard, count, bytes, reference)); in `stream`, (key, (shard, count, bytes)).

    The bytes are TFRecords in the `dataset` feed and packed records (`wire.pack_records`) in `stream`. A reference
    names a spooled file that has the rows; then there are no bytes. Windowed rows go through `ChunkWindowedRows`:
    asking Beam for a row's window takes as long as all the work here.

    Args:
      options: the transform's arguments.
      encoder: encoder of the rows.
      dead_letters: settings for rows that do not fit; None fails the bundle.
    """

    def __init__(self, options: ScriptOptions, encoder: RowEncoder, dead_letters: DeadLetters | None):
        # The graph holds the script's files once, with the stage that runs the script.
        super().__init__(options.without_files())
        self._encoder = encoder
        self._dead_letters = dead_letters
        self._spool: ChunkSpool | None = None

    def start_bundle(self) -> None:
        """Begin with no rows, at a random shard: bundles may have fewer rows than there are shards."""
        self._rows: list[Any] = []
        self._gatherer = RowGatherer(self._encoder, self._dead_letters)
        num_shards = self._options.num_workers
        pack = pack_examples if self._options.feed == "stream" else frame_examples
        self._chunker = Chunker(num_shards, random.randrange(num_shards), pack)
        assert self._pool is not None
        self._abandon_spool()
        self._spool = ChunkSpool(self._options, self._pool.scratch())

    def process(self, row: Any) -> Iterable[Any]:
        """Take one row, an Arrow batch or a chunk of Examples; return the chunks that are full."""
        if isinstance(row, BATCHES):
            return self._encode_batch(row)
        self._rows.append(row)
        return self._encode_rows() if len(self._rows) >= self._gatherer.limit else ()

    def finish_bundle(self) -> Iterator[Any]:
        """Yield the remaining chunks."""
        window = GlobalWindow()
        for output in self._encode_rows():
            yield in_window(output, window, window.max_timestamp())
        for chunk in self._chunker.flush():
            for _, element in self._send(chunk):
                yield in_window(element, window, window.max_timestamp())
        for _, element in self._finish_spool():
            yield in_window(element, window, window.max_timestamp())

    def teardown(self) -> None:
        """Remove the files of a bundle that has failed."""
        self._abandon_spool()
        super().teardown()

    def _send(self, chunk: Chunk) -> Iterator[tuple[Any, Any]]:
        """Yield (window, element) of what is sent now for a chunk."""
        key = self._options.shard_keys[chunk.shard]
        if self._options.feed == "stream":
            yield chunk.window, (key, (chunk.shard, chunk.count, chunk.payload))
            return
        assert self._spool is not None
        for window, *sent in self._spool.send(chunk):
            yield window, (key, tuple(sent))

    def _finish_spool(self) -> Iterator[tuple[Any, Any]]:
        """Yield (window, element) of what remains to be sent."""
        assert self._spool is not None
        for window, shard, *sent in self._spool.finish():
            yield window, (self._options.shard_keys[shard], (shard, *sent))
        self._spool = None

    def _abandon_spool(self) -> None:
        if self._spool is not None:
            self._spool.abandon()
        self._spool = None

    def _send_all(self, chunks: Iterable[Chunk]) -> Iterator[Any]:
        for chunk in chunks:
            for _, element in self._send(chunk):
                yield element

    def _encode_rows(self) -> Iterator[Any]:
        rows, self._rows = self._rows, []
        encoded = self._gatherer.encode(rows)
        for index, error in encoded.errors:
            yield self._gatherer.record(rows[index], error)
        yield from self._send_all(self._chunker.add(encoded.examples, shards=self._shards(encoded)))

    def _encode_batch(self, batch: Any) -> Iterator[Any]:
        """Encode an Arrow batch or a chunk in slices, without a call per row."""
        for part, encoded in self._gatherer.encode_batch(batch):
            for index, error in encoded.errors:
                yield self._gatherer.record(element_of_batch(part, index), error)
            yield from self._send_all(self._chunker.add(encoded.examples, shards=self._shards(encoded)))

    def _shards(self, encoded: Encoded) -> list[int] | None:
        return None if encoded.keys is None else shards_of(encoded.keys, self._options.num_workers)


class ChunkWindowedRows(ChunkRows):
    """Rows of any windows -> the pairs of `ChunkRows`, each chunk in the window of its rows.

    A chunk has its window's last timestamp, which is never late, and which a GroupByKey sets anyway. In the global
    window the last timestamp is the end of time, so chunks have the timestamp of the newest row.
    """

    def start_bundle(self) -> None:
        """Begin with no rows."""
        super().start_bundle()
        self._row_windows = RowWindows()
        self._newest: Timestamp | None = None

    def process(self, row: Any, windowed_value: Any = beam.DoFn.WindowedValueParam) -> Iterable[Any]:
        """Take one row, or a batch of rows, with its windows; return the chunks that are full."""
        if isinstance(row, BATCHES):
            return self._encode_batch_in(row, windowed_value)
        self._row_windows.add(windowed_value)
        return super().process(row)

    def finish_bundle(self) -> Iterator[Any]:
        """Yield the remaining chunks."""
        yield from self._encode_rows()
        yield from self._send_in_windows(self._chunker.flush())
        for window, element in self._finish_spool():
            yield self._in_window(element, window)

    def _encode_rows(self) -> Iterator[Any]:
        rows, self._rows = self._rows, []
        row_windows, self._row_windows = self._row_windows, RowWindows()
        if not rows:
            return
        self._note_newest(Timestamp(micros=max(row_windows.timestamps_micros)))
        # Encoded across windows: there may be many windows with a few rows each.
        encoded = self._gatherer.encode(rows)
        for index, error in encoded.errors:
            for window in row_windows.of_row(index).windows:
                yield self._in_window(self._gatherer.record(rows[index], error), window)
        shards = self._shards(encoded)
        for window, indices in row_windows.without(dict(encoded.errors)).by_window():
            examples = values_at(encoded.examples, indices)
            window_shards = None if shards is None else values_at(shards, indices)
            yield from self._send_in_windows(self._chunker.add(examples, window=window, shards=window_shards))

    def _encode_batch_in(self, batch: Any, windowed_value: Any) -> Iterator[Any]:
        """Encode an Arrow batch or a chunk in slices; its rows are in the batch's windows."""
        self._note_newest(windowed_value.timestamp)
        for part, encoded in self._gatherer.encode_batch(batch):
            shards = self._shards(encoded)
            for window in windowed_value.windows:
                for index, error in encoded.errors:
                    yield self._in_window(self._gatherer.record(element_of_batch(part, index), error), window)
                yield from self._send_in_windows(self._chunker.add(encoded.examples, window=window, shards=shards))

    def _send_in_windows(self, chunks: Iterable[Chunk]) -> Iterator[Any]:
        for chunk in chunks:
            for window, element in self._send(chunk):
                yield self._in_window(element, window)

    def _note_newest(self, timestamp: Timestamp) -> None:
        self._newest = timestamp if self._newest is None else max(self._newest, timestamp)

    def _in_window(self, output: Any, window: Any) -> Any:
        is_global = isinstance(window, GlobalWindow)
        return in_window(output, window, self._newest if is_global else window.max_timestamp())

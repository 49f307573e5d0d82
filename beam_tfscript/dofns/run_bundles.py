"""Run the `bundles` feed: a bundle's rows in, the rows that the script writes for them out."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import array
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_tfscript import metrics
from beam_tfscript.data.encoding import BATCHES, RowEncoder, element_of_batch
from beam_tfscript.data.example_chunk import ExampleChunk
from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.decode_output import OutputDecoder
from beam_tfscript.dofns.row_gatherer import RowGatherer
from beam_tfscript.dofns.row_windows import RowWindows, values_at
from beam_tfscript.dofns.script_dofns import RunsScript, bounds_of
from beam_tfscript.feeds.bundles import BundleFeed, Done, merge
from beam_tfscript.options.script_options import ScriptOptions


class RunBundles(RunsScript):
    """Rows -> the rows that the script writes for them, in the bundle that they are in.

    Args:
      options: the transform's arguments.
      encoder: encodes rows.
      bad: the dead letters for rows and outputs that do not fit, and for batches that kill their process; None fails
        the bundle.
    """

    _feed: BundleFeed | None = None
    _form = "record_batch"  # the form of the input's elements

    def __init__(self, options: ScriptOptions, encoder: RowEncoder, bad: DeadLetters | None):
        super().__init__(options, bad)
        self._encoder = encoder

    def teardown(self) -> None:
        """End a bundle that failed."""
        self._abandon()
        super().teardown()

    def start_bundle(self) -> None:
        """Begin with no rows; an earlier bundle that was not finished has failed."""
        self._abandon()
        self._rows: list[Any] = []
        self._row_windows = RowWindows()
        self._gatherer = RowGatherer(self._encoder, self._bad)

    def process(self, row: Any, element: Any = beam.DoFn.WindowedValueParam) -> Iterable[Any]:
        """Take one row, an Arrow batch or a chunk of Examples; yield rows of batches that are done."""
        if isinstance(row, BATCHES):
            return self._send_batch(row, element)
        self._rows.append(row)
        self._row_windows.add(element)
        return self._send_rows(element) if len(self._rows) >= self._gatherer.limit else ()

    def finish_bundle(self) -> Iterator[Any]:
        """Yield the other rows: the bundle is complete with its last acknowledgement."""
        yield from self._send_rows(None)
        if self._feed is not None:
            yield from self._give_out(self._feed.finish(), None)
            self._feed = None

    def _send_rows(self, current: WindowedValue | None) -> Iterator[Any]:
        """Send the gathered rows, and yield rows that are done; `current` is the element in `process`, if any."""
        rows, self._rows = self._rows, []
        row_windows, self._row_windows = self._row_windows, RowWindows()
        if not rows:
            return
        self._form = _form_of(rows[0])
        encoded = self._gatherer.encode(rows)
        for index, error in encoded.errors:
            yield _with_window_of(row_windows.of_row(index), self._gatherer.record(rows[index], error))
        row_windows = row_windows.without(dict(encoded.errors))
        for window, chosen in row_windows.by_window():
            yield from self._send(
                values_at(encoded.examples, chosen), window, values_at(row_windows.timestamps_micros, chosen), current
            )

    def _send_batch(self, batch: Any, element: WindowedValue) -> Iterator[Any]:
        """Send rows that came before, then an Arrow batch, a table or a chunk, never taken apart into rows."""
        yield from self._send_rows(element)
        self._form = "example" if isinstance(batch, ExampleChunk) else "record_batch"
        for part, encoded in self._gatherer.encode_batch(batch):
            for index, error in encoded.errors:
                yield _with_window_of(element, self._gatherer.record(element_of_batch(part, index), error))
            stamps = array.array("q", [element.timestamp_micros]) * len(encoded.examples)
            for window in element.windows if stamps else ():
                yield from self._send(encoded.examples, window, stamps, element)

    def _send(self, examples: Any, window: Any, timestamps: "array.array[int]", current: Any) -> Iterator[Any]:
        if self._feed is None:
            keep_going = self._bad is not None
            self._feed = BundleFeed(self._staged, user=self, bounds=bounds_of, keep_going=keep_going)
        yield from self._give_out(self._feed.add(examples, window, timestamps), current)

    def _give_out(self, parts: Iterator[Done], current: WindowedValue | None) -> Iterator[Any]:
        """Yield output rows, each in its window at its timestamp; a bundle that fails here ends its process."""
        try:
            for done in merge(parts):
                target = WindowedValue(None, Timestamp(micros=done.timestamp_micros), (done.window,))
                outputs = self._decode(done.records) if done.records else ()
                if _is_alike(current, target):
                    # Beam sets the window and the timestamp of the current element, at less cost than here.
                    yield from outputs
                else:
                    put = target.with_value if self._bad is None else functools.partial(_with_window_of, target)
                    yield from map(put, outputs)
                for row in self._bad_rows(done):
                    yield _with_window_of(target, row)
        except BaseException:
            self._abandon()
            raise

    def _bad_rows(self, done: Done) -> Iterator[TaggedOutput]:
        if done.error is not None:
            assert self._bad is not None
            metrics.add("rows_bad", len(done.killed))
            for row in self._input_elements(done.killed):
                yield self._bad.record(row, done.error)

    def _input_elements(self, examples: list[bytes]) -> list[Any]:
        schema = self._options.input_schema
        if schema is None or self._form == "example":
            return examples
        return list(OutputDecoder(schema, self._form).decode(examples))

    def _abandon(self) -> None:
        if self._feed is not None:
            self._feed.abandon()
            self._feed = None


def _form_of(row: Any) -> str:
    if isinstance(row, dict):
        return "dict"
    return "example" if isinstance(row, bytes) or hasattr(row, "SerializeToString") else "row"


def _is_alike(current: WindowedValue | None, target: WindowedValue) -> bool:
    """Return True if the current element has the target's windows and timestamp."""
    return current is not None and current.windows == target.windows and current.timestamp == target.timestamp


def _with_window_of(target: WindowedValue, output: Any) -> Any:
    """Return an output with the windows and the timestamp of `target`."""
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, target.with_value(output.value))
    return target.with_value(output)

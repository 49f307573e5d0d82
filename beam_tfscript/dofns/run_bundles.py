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
from beam_tfscript.data.encoding import ARROW, RowEncoder
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
      encoder: what encodes rows.
      bad: what to do with rows and outputs that do not fit, and with batches that kill their process; None fails the
        bundle.
    """

    _feed: BundleFeed | None = None
    _form = "record_batch"  # of the input's elements

    def __init__(self, options: ScriptOptions, encoder: RowEncoder, bad: DeadLetters | None):
        super().__init__(options, bad)
        self._encoder = encoder

    def teardown(self) -> None:
        """Ends a bundle that failed."""
        self._abandon()
        super().teardown()

    def start_bundle(self) -> None:
        """Begins with no rows; a bundle before this one that was not finished has failed."""
        self._abandon()
        self._rows: list[Any] = []
        self._places = RowWindows()
        self._gatherer = RowGatherer(self._encoder, self._bad)

    def process(self, row: Any, place: Any = beam.DoFn.WindowedValueParam) -> Iterable[Any]:
        """Takes one row, or an Arrow batch of rows; now and then there are rows to give out."""
        if isinstance(row, ARROW):
            return self._send_batch(row, place)
        self._rows.append(row)
        self._places.add(place)
        return self._send_rows(place) if len(self._rows) >= self._gatherer.limit else ()

    def finish_bundle(self) -> Iterator[Any]:
        """Gives out the rest: the bundle is complete with its last acknowledgement."""
        yield from self._send_rows(None)
        if self._feed is not None:
            yield from self._give_out(self._feed.finish(), None)
            self._feed = None

    def _send_rows(self, here: WindowedValue | None) -> Iterator[Any]:
        """Sends the rows that are gathered, and gives out what is done; `here` is the element at hand, or None."""
        rows, self._rows = self._rows, []
        places, self._places = self._places, RowWindows()
        if not rows:
            return
        self._form = _form_of(rows[0])
        encoded = self._gatherer.encode(rows)
        for index, error in encoded.bad:
            yield _placed(self._gatherer.record(rows[index], error), places.of_row(index))
        places = places.without(dict(encoded.bad))
        for window, chosen in places.by_window():
            yield from self._send(
                values_at(encoded.examples, chosen), window, values_at(places.timestamps_micros, chosen), here
            )

    def _send_batch(self, batch: Any, place: Any) -> Iterator[Any]:
        """Sends an Arrow batch or table in slices, never taken apart into rows; first what came before it."""
        yield from self._send_rows(place)
        self._form = "record_batch"
        for part, encoded in self._gatherer.encode_batch(batch):
            for index, error in encoded.bad:
                yield _placed(self._gatherer.record(part.slice(index, 1), error), place)
            stamps = array.array("q", [place.timestamp_micros]) * len(encoded.examples)
            for window in place.windows if stamps else ():
                yield from self._send(encoded.examples, window, stamps, place)

    def _send(self, examples: list[bytes], window: Any, timestamps: "array.array[int]", here: Any) -> Iterator[Any]:
        if self._feed is None:
            keep_going = self._bad is not None
            self._feed = BundleFeed(self._staged, user=self, bounds=bounds_of, keep_going=keep_going)
        yield from self._give_out(self._feed.add(examples, window, timestamps), here)

    def _give_out(self, parts: Iterator[Done], here: WindowedValue | None) -> Iterator[Any]:
        """The rows of what is done, each at its place; a bundle that fails on the way ends its process."""
        try:
            for done in merge(parts):
                place = WindowedValue(None, Timestamp(micros=done.timestamp_micros), (done.window,))
                is_here = here is not None and here.windows == place.windows and here.timestamp == place.timestamp
                outputs = self._decode(done.records) if done.records else ()
                put = place.with_value if self._bad is None else functools.partial(_placed, place=place)
                # Beam gives an output that says nothing else the place of the element at hand.
                yield from outputs if is_here else map(put, outputs)
                for row in self._bad_rows(done):
                    yield _placed(row, place)
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


def _placed(output: Any, place: WindowedValue) -> Any:
    """The output in the windows and at the timestamp of `place`."""
    if isinstance(output, TaggedOutput):
        return TaggedOutput(output.tag, place.with_value(output.value))
    return place.with_value(output)

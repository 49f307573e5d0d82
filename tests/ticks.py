"""An unbounded source on Flink whose place is in the job's state, so that checkpoints and savepoints hold it.

Flink's runner calls a splittable DoFn in Python that defers its remainder back at once, again and again, and no
checkpoint is complete meanwhile. So here ticks come from a source of the runner's own, and a stateful step makes rows
of them, one after the other. A job that goes on from a checkpoint gives what comes behind it; a job that starts from
scratch begins with row 1 again.
"""

from __future__ import annotations

import os

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.io.flink.flink_streaming_impulse_source import FlinkStreamingImpulseSource
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import TimestampedValue


class Ticks(beam.PTransform):
    """Rows with ids 1, 2, 3 …, each at the time of that second.

    Args:
      stops: (how many rows there are by then, a file that must exist for more to come) each; the last file is None.
      interval_ms: between two rows, at least.
    """

    def __init__(self, stops: list[tuple[int, str | None]], interval_ms: int = 20):
        super().__init__()
        self._stops = stops
        self._interval_ms = interval_ms

    def expand(self, pipeline):
        ticks = pipeline | FlinkStreamingImpulseSource().set_interval_ms(self._interval_ms).set_message_count(0)
        keyed = ticks | beam.Map(lambda tick: (0, b"")).with_output_types(beam.typehints.Tuple[int, bytes])
        return keyed | "Rows" >> beam.ParDo(_Number(self._stops)).with_output_types(dict)


class _Number(beam.DoFn):
    """The next row for each tick, as far as the stops let it."""

    GIVEN = ReadModifyWriteStateSpec("given", VarIntCoder())

    def __init__(self, stops):
        self._stops = stops

    def process(self, tick, given=beam.DoFn.StateParam(GIVEN)):  # noqa: B008 - Beam's way to ask for state
        number = (given.read() or 0) + 1
        for limit, go in self._stops:
            if number <= limit:
                given.write(number)
                yield TimestampedValue({"id": str(number)}, number)
                return
            if go is None or not os.path.exists(go):
                return

"""Run the `dataset` feed: one shard's chunks in, rows of one run of the script out."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from beam_tfscript import metrics
from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.script_dofns import RunsScript, bounds_of, in_window
from beam_tfscript.feeds.dataset import ShardRun
from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.runtime.transport import wire


class RunShard(RunsScript):
    """(shard, its chunks) -> the rows that one run of the script writes.

    Args:
      options: the transform's arguments.
      bad: what to do with outputs that do not fit; None fails the bundle.
      stamp: whether outputs must be given the window's end as timestamp, since Beam's GroupByKey was
        told to give them another.
    """

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None, *, stamp: bool):
        super().__init__(options, bad)
        self._stamp = stamp

    def process(
        self,
        element: tuple[int, Iterable[tuple[int, bytes]]],
        window: Any = beam.DoFn.WindowParam,
        sides: Any = None,
    ) -> Iterator[Any]:
        """Runs the script over one shard's rows of one window."""
        shard, chunks = element
        with self._side_inputs(window, sides) as side_inputs:
            run = ShardRun(self._staged, user=self, side_inputs=side_inputs)
            for report in run.reports(shard, bounds_of(window), chunks):
                if report.kind == wire.METRICS:
                    metrics.add_from_script(report.json())
                elif self._stamp:
                    end = window.max_timestamp()
                    for row in self._decode(report.records()):
                        yield in_window(row, window, end)
                else:
                    yield from self._decode(report.records())

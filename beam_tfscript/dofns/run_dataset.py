"""Run the `dataset` feed: one shard's chunks in, rows of one run of the script out."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from beam_tfscript.dofns.dead_letters import DeadLetters
from beam_tfscript.dofns.script_dofns import RunsScript, bounds_of, in_window
from beam_tfscript.dofns.spool_chunks import while_read
from beam_tfscript.dofns.spool_removal import removable
from beam_tfscript.feeds.dataset import ShardRun
from beam_tfscript.options.script_options import ScriptOptions


class RunShard(RunsScript):
    """(key of a shard, its chunks) -> the rows that one run of the script writes, and the names of spooled files.

    Args:
      options: the transform's arguments.
      bad: the dead letters for outputs that do not fit; None fails the bundle.
      stamp: True to set the window's end as the outputs' timestamp, as Beam's GroupByKey was told to set another.
    """

    def __init__(self, options: ScriptOptions, bad: DeadLetters | None, *, stamp: bool):
        super().__init__(options, bad)
        self._stamp = stamp

    def process(
        self,
        element: tuple[int, Iterable[tuple[int, int, bytes, str]]],
        window: Any = beam.DoFn.WindowParam,
        side_chunks: Any = None,
    ) -> Iterator[Any]:
        """Run the script over one shard's rows of one window."""
        key, chunks = element
        shard = self._options.shard_keys.index(key)
        with self._side_inputs(window, side_chunks) as side_inputs:
            run = ShardRun(self._staged, user=self, side_inputs=side_inputs)
            # Closed here: if a stage downstream fails, the script ends before its side inputs are removed.
            with contextlib.closing(run.rows(shard, bounds_of(window), while_read(self._options, chunks))) as rows:
                for records in rows:
                    if self._stamp:
                        end = window.max_timestamp()
                        for row in self._decode(records):
                            yield in_window(row, window, end)
                    else:
                        yield from self._decode(records)
            yield from removable(run.spooled)

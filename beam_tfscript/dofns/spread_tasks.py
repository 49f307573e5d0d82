"""Chunks by shard to chunks by task, for a cluster whose tasks are on several machines: each task has a key."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from beam_tfscript.cluster.tf_config import make_tasks
from beam_tfscript.dofns.script_dofns import in_window
from beam_tfscript.options.script_options import ScriptOptions


class SpreadTasks(beam.DoFn):
    """(key, chunk) -> (task's key, chunk): each task that is fed the rows gets them, and every task gets an element.

    Tasks without rows need an element too, as the runner calls a DoFn for keys alone. So each bundle sends all tasks an
    empty chunk in each window that it has rows in.

    Args:
      options: the transform's arguments.
    """

    def __init__(self, options: ScriptOptions):
        assert options.cluster is not None
        self._keys = options.task_keys
        self._tasks = make_tasks(options.cluster.counts)

    def start_bundle(self) -> None:
        """Begin without windows."""
        self._windows: dict[Any, Any] = {}  # window -> the newest timestamp of its chunks

    def process(
        self, element: tuple[int, Any], window: Any = beam.DoFn.WindowParam, timestamp: Any = beam.DoFn.TimestampParam
    ) -> Iterator[Any]:
        """Send a chunk to the task that is fed it; evaluators are fed the rows of the chief."""
        _, chunk = element
        self._windows[window] = max(timestamp, self._windows.get(window, timestamp))
        for key, task in zip(self._keys, self._tasks):
            if chunk[0] == (0 if task.type == "evaluator" else task.shard):
                yield key, chunk

    def finish_bundle(self) -> Iterator[Any]:
        """Send all tasks a chunk without rows."""
        for window, timestamp in self._windows.items():
            for key, task in zip(self._keys, self._tasks):
                yield in_window((key, (task.shard or 0, 0, b"", "")), window, timestamp)

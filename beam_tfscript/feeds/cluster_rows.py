"""Rows of a cluster's tasks on this machine: their files, their number, and their checksum."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.data import tfrecord
from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.feeds.spool import ShardFiles
from beam_tfscript.files.row_spool import SpooledFile

# (shard, number of rows, TFRecord bytes, or a reference to a spooled file).
Chunk = tuple[int, int, bytes, str]


class ClusterRows:
    """Rows of one or more tasks.

    Args:
      directory: where their files are made.
      num_workers: of the cluster.
      is_summed: True to make the checksum, which a training needs.

    Attributes:
      requests: task -> the values of a request for its rows.
      lengths: number of rows of each worker; 0 for those that are not here.
      spooled: references to spooled files that the chunks had.
    """

    def __init__(self, directory: str, num_workers: int, *, is_summed: bool):
        self.requests: dict[Task, Mapping[str, Any]] = {}
        self.lengths = [0] * num_workers
        self.spooled: list[SpooledFile] = []
        self._directory = directory
        self._checksum = RowsChecksum()
        self._is_summed = is_summed

    @property
    def checksum(self) -> str:
        """Text of the checksum of all rows of workers."""
        return str(self._checksum)

    def fill(self, name: str, tasks: Sequence[Task], chunks: Iterable[Chunk]) -> None:
        """Take the chunks of some tasks.

        An evaluator has no rows of its own. It gets those of the chief, so that it has something to evaluate on.

        Args:
          name: of the directory to make for them.
          tasks: the tasks.
          chunks: of all shards that the tasks are fed; iterated once.

        Raises:
          ScriptEnvironmentError: the disk is full or cannot be written, or a spooled file cannot be read.
        """
        directory = os.path.join(self._directory, name)
        os.mkdir(directory)
        files = ShardFiles(directory, len(self.lengths))
        own = {task.shard for task in tasks}
        self.spooled += files.fill(self._summed(chunks, own) if self._is_summed else chunks)
        for task in tasks:
            self.requests[task] = files.request(0 if task.type == "evaluator" else task.shard)
            if task.shard is not None:
                self.lengths[task.shard] = files.lengths[task.shard]

    def _summed(self, chunks: Iterable[Chunk], shards: set[int | None]) -> Iterator[Chunk]:
        """Yield the same chunks, each added to the checksum if a worker is fed it."""
        for chunk in chunks:
            shard, _, payload, reference = chunk
            if shard in shards and reference:
                self._checksum.add_sums(SpooledFile.decode(reference).checksum)
            elif shard in shards:
                self._checksum.add(tfrecord.split(payload))
            yield chunk

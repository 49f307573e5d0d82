"""The `stream` feed over bounded input: the rows of a whole group are fed to a run, and to the next if that dies."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from beam_tfscript.data.checksum import RowsChecksum
from beam_tfscript.feeds.demultiplexer import Demultiplexer, Output
from beam_tfscript.feeds.kept_rows import Chunk, FileRows, arrive
from beam_tfscript.feeds.live_run import LiveRun
from beam_tfscript.feeds.stream import StreamFeed
from beam_tfscript.feeds.stream_runs import StreamRuns
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.runtime.transport import wire


class GroupStream(StreamFeed):
    """Feeds the rows of one group.

    Args:
      runs: starts and ends runs.
      shard, window: of the rows.
      side_inputs: the window's side inputs, for the script's config.
      path: a file for the rows, in case they must be fed again.

    Attributes:
      state: the positions of the rows.
    """

    def __init__(
        self,
        runs: StreamRuns,
        *,
        shard: int,
        window: tuple[float, float] | None,
        side_inputs: dict[str, Any],
        path: str,
    ):
        super().__init__(runs)
        self._shard = shard
        self._window = window
        self._side_inputs = side_inputs
        self.state = StreamState()
        self._kept = FileRows(path)

    def gather(self, chunks: Iterable[tuple[int, int, bytes]]) -> str:
        """Take all rows before any is fed; return their checksum, the same for any order of the rows."""
        checksum = RowsChecksum()
        for shard, count, payload in chunks:
            checksum.add(wire.unpack_records(count, payload))
            self._kept.add(arrive(self.state, shard, count, payload))
        return str(checksum)

    def outputs(self, chunks: Iterable[tuple[int, int, bytes]] = ()) -> Generator[Output, None, None]:
        """Yield the outputs of the runs.

        Args:
          chunks: (shard, count, payload) each, behind those that are gathered; iterated once.

        Raises:
          ScriptError: the run failed as often as it may, or in a way that would come again.
        """
        return Demultiplexer().outputs(self._frames(arrive(self.state, *chunk) for chunk in chunks))

    def _frames(self, incoming: Iterable[Chunk]) -> Generator[wire.Frame, None, None]:
        run = yield from self._drive(self.state, self._kept, None, incoming, is_end=True)
        if run is not None:
            self._runs.count_unread(run)
            self._runs.end(run)

    def _begin(self, state: StreamState, *, is_end: bool) -> LiveRun | None:
        return self._runs.start(self._shard, self._window, state, wait=True, side_inputs=self._side_inputs)

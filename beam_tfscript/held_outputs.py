"""Outputs of a batch that is not acknowledged: kept until it is, or forgotten with the process that wrote them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

from beam_tfscript.runtime import wire
from beam_tfscript.worker.spool import OutputSpool

# A batch that gives more than this is rare, and goes on to a file: memory stays bounded whatever a script writes.
_MEMORY_BYTES = 32 << 20


class HeldOutputs:
    """EXAMPLES frames in order.

    Args:
      scratch: gives the directory for files.
    """

    def __init__(self, scratch: Callable[[], str]):
        self._scratch = scratch
        self._frames: list[wire.Frame] = []
        self._bytes = 0
        self._path: str | None = None

    def add(self, frame: wire.Frame) -> None:
        """Keeps one frame."""
        self._frames.append(frame)
        self._bytes += len(frame.payload)
        if self._bytes > _MEMORY_BYTES:
            if self._path is None:
                descriptor, self._path = tempfile.mkstemp(prefix="outputs-", dir=self._scratch())
                os.close(descriptor)
            OutputSpool(self._path).extend(self._frames)
            self._frames, self._bytes = [], 0

    def take(self) -> Iterator[list[bytes]]:
        """Yields the records of each frame, and forgets them."""
        if self._path is not None:
            for frame in OutputSpool(self._path).reports():
                yield frame.records()
        frames, self._frames = self._frames, []
        for frame in frames:
            yield frame.records()
        self.drop()

    def drop(self) -> None:
        """Forgets all."""
        self._frames, self._bytes = [], 0
        if self._path is not None:
            os.unlink(self._path)
            self._path = None

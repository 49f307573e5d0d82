"""What a script gave for a batch that is not acknowledged: kept until it is, or forgotten with the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator

from beam_tfscript.feeds.spool import OutputSpool
from beam_tfscript.runtime.transport import wire

# A batch that gives more than this is rare, and goes on to a file: memory stays bounded whatever a script writes.
_MEMORY_BYTES = 32 << 20


class HeldOutputs:
    """Frames in order; false where there are none.

    Args:
      scratch: gives the directory for files.
    """

    def __init__(self, scratch: Callable[[], str]):
        self._scratch = scratch
        self._frames: list[wire.Frame] = []
        self._bytes = 0
        self._path: str | None = None

    def __bool__(self) -> bool:
        return bool(self._frames) or self._path is not None

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

    def take(self) -> Iterator[wire.Frame]:
        """Yield the frames, and forget them."""
        if self._path is not None:
            yield from OutputSpool(self._path).reports()
        frames, self._frames = self._frames, []
        yield from frames
        self.drop()

    def drop(self) -> None:
        """Forgets all."""
        self._frames, self._bytes = [], 0
        if self._path is not None:
            os.unlink(self._path)
            self._path = None

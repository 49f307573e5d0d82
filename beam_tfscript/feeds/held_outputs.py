"""Outputs of a batch that is not acknowledged: held until it is, or forgotten with the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator

from beam_tfscript.feeds.spool import OutputSpool
from beam_tfscript.runtime.transport import wire

# Few batches give more than this. Their outputs go to a file: memory stays bounded whatever a script writes.
_MEMORY_BYTES = 32 << 20


class HeldOutputs:
    """Frames in order; false if there are none.

    Args:
      scratch: returns the directory for files.
    """

    def __init__(self, scratch: Callable[[], str]):
        self._scratch = scratch
        self._frames: list[wire.Frame] = []
        self._bytes = 0
        self._path: str | None = None

    def __bool__(self) -> bool:
        return bool(self._frames) or self._path is not None

    def add(self, frame: wire.Frame) -> None:
        """Hold one frame."""
        self._frames.append(frame)
        self._bytes += len(frame.payload)
        if self._bytes > _MEMORY_BYTES:
            if self._path is None:
                descriptor, self._path = tempfile.mkstemp(prefix="outputs-", dir=self._scratch())
                os.close(descriptor)
            OutputSpool(self._path).extend(self._frames)
            self._frames, self._bytes = [], 0

    def take(self) -> Generator[wire.Frame, None, None]:
        """Yield the frames, and forget them."""
        if self._path is not None:
            yield from OutputSpool(self._path).frames()
        frames, self._frames = self._frames, []
        yield from frames
        self.drop()

    def drop(self) -> None:
        """Forget all frames."""
        self._frames, self._bytes = [], 0
        if self._path is not None:
            os.unlink(self._path)
            self._path = None

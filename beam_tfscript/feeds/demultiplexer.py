"""Frames of runs, told apart: metrics are counted, rows and models go to the DoFns.

Only frames of work that is done come here: of a batch or a run that is repeated, nothing is counted and nothing given
out. So each feed holds or spools its frames first, and this file is their way out.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator
from typing import Any

from beam_tfscript import metrics
from beam_tfscript.errors import ProtocolError
from beam_tfscript.runtime.transport import wire


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows that a script wrote.

    Attributes:
      records: serialized Examples.
    """

    records: list[bytes]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that a training has exported while it goes on.

    Attributes:
      exported: the JSON object of the EXPORT frame.
    """

    exported: dict[str, Any]


Output = Rows | Model


class Demultiplexer:
    """Tells the frames of runs apart; must be used on the bundle's own thread, as it counts."""

    def outputs(self, frames: Generator[wire.Frame, None, None]) -> Generator[Output, None, None]:
        """Yield the rows and models among some frames.

        The frames are closed with this generator, and not when the garbage collector finds them: they may come from a
        run whose process has to end before its directory is removed.
        """
        with contextlib.closing(frames):
            for frame in frames:
                if frame.kind == wire.METRICS:
                    metrics.add_from_script(frame.json())
                elif frame.kind == wire.EXAMPLES:
                    yield Rows(frame.records())
                elif frame.kind == wire.EXPORT:
                    yield Model(frame.json())
                elif frame.kind != wire.REPORT:  # taken where the cluster's frames are received
                    raise ProtocolError(f"{frame.name} is not an output of a run")

    def rows(self, frames: Generator[wire.Frame, None, None]) -> Generator[list[bytes], None, None]:
        """Yield the rows among some frames, as lists of serialized Examples; close the frames as `outputs` does."""
        with contextlib.closing(self.outputs(frames)) as outputs:
            for output in outputs:
                if isinstance(output, Rows):
                    yield output.records

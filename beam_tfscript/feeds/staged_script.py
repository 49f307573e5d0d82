"""A transform's script as it is ready on a worker: what every run of it is made of."""

from __future__ import annotations

import dataclasses

from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process_spec import ProcessSpec


@dataclasses.dataclass(frozen=True)
class StagedScript:
    """A script that can be run here.

    Attributes:
      options: the transform's arguments.
      spec: the process that its runs need.
      pool: where that is leased.
      files: directory of the script's files.
    """

    options: ScriptOptions
    spec: ProcessSpec
    pool: ProcessPool
    files: str

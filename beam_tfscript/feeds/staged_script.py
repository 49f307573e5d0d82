"""A transform's script, staged on a worker: all that a run of it needs."""

from __future__ import annotations

import dataclasses

from beam_tfscript.options.script_options import ScriptOptions
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process_spec import ProcessSpec


@dataclasses.dataclass(frozen=True)
class StagedScript:
    """A script that is ready to run on this worker.

    Attributes:
      options: the transform's arguments.
      spec: of the processes that its runs need.
      pool: leases such processes.
      files: directory of the script's files.
    """

    options: ScriptOptions
    spec: ProcessSpec
    pool: ProcessPool
    files: str

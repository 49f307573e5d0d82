"""Specification of a script process: its interpreter, its environment, and its transform."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Hashable, Mapping, Sequence

from beam_tfscript.runtime.run import launcher
from beam_tfscript.runtime.transport.variables import LEASED_DEVICES
from beam_tfscript.worker.accelerators import VISIBLE_VARIABLE

# The script must not find this interpreter's packages, nor be taken for a task of a cluster that this process is in.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "TF_CONFIG")


@dataclasses.dataclass(frozen=True)
class ProcessSpec:
    """Specification of a script process.

    Attributes:
      key: the transform's; processes are counted by it.
      name: the script's name, for the log and for errors.
      python: path of the interpreter.
      runtime_path: directory that holds the copy of this package for the script's interpreter.
      env: environment variables on top of the pipeline's own.
      intra_op_parallelism: threads of TensorFlow's and OpenMP's pools; 0 leaves them alone.
      start_timeout_s: how long the interpreter and its import of TensorFlow may take.
      idle_timeout_s: how long it may be idle before it is ended; None for the pool's default.
      log_level: the level at which lines that the script prints are logged.
      accelerators: number of accelerators that the process is given, or a fraction of one; 0 hides all from it. None
        for those that this process sees.
      max_runs: number of runs after which the process ends; None for no limit.
      max_rss_bytes: resident memory above which the process ends after a run; None for no limit.
      use_marker: a file to hold a shared lock on while the process lives, by which its environment is not removed.
    """

    key: str
    name: str
    python: str
    runtime_path: str
    env: Mapping[str, str] = dataclasses.field(repr=False)
    intra_op_parallelism: int
    start_timeout_s: float
    idle_timeout_s: float | None = None
    use_marker: str | None = None
    log_level: int = logging.INFO
    accelerators: float | None = None
    max_runs: int | None = None
    max_rss_bytes: int | None = None

    @property
    def interpreter(self) -> Hashable:
        """Key of interchangeable idle processes, whichever transform started them."""
        return (
            self.python,
            self.runtime_path,
            tuple(sorted(self.env.items())),
            self.intra_op_parallelism,
            self.log_level,
            self.accelerators,
        )


def make_environment(spec: ProcessSpec, descriptor: int, scratch: str, devices: Sequence[str] = ()) -> dict[str, str]:
    """Return the environment variables of a script process.

    Args:
      spec: of the process.
      descriptor: the process's end of the channel.
      scratch: the harness's scratch directory.
      devices: ids of the accelerators that are leased for the process.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    # The import of TensorFlow says a dozen lines about the processor; `env` may ask for them again.
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if spec.intra_op_parallelism:
        threads = str(spec.intra_op_parallelism)
        environment.update(OMP_NUM_THREADS=threads, TF_NUM_INTRAOP_THREADS=threads)
    if devices:
        # Else TensorFlow takes all of a device's memory: https://www.tensorflow.org/guide/gpu#limiting_gpu_memory_growth.
        environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    environment.update(spec.env)
    if spec.accelerators is not None:
        # Empty hides all.
        environment[VISIBLE_VARIABLE] = environment[LEASED_DEVICES] = ",".join(devices)
    more = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = spec.runtime_path + (os.pathsep + more if more else "")
    environment[launcher.CHANNEL_VARIABLE] = str(descriptor)
    environment[launcher.SCRATCH_VARIABLE] = scratch
    environment[launcher.THREADS_VARIABLE] = str(spec.intra_op_parallelism)
    return environment

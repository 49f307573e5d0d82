"""The directory in which the tasks of a cluster on several machines meet."""

from __future__ import annotations

import apache_beam as beam

from beam_tfscript.errors import ArgumentError
from beam_tfscript.options.script_options import TransformOptions
from beam_tfscript.transforms.spool_plan import default_directory


def plan_meeting(given: TransformOptions, pipeline: beam.Pipeline, label: str) -> str | None:
    """Return the directory; None where there is no cluster on several machines.

    Args:
      given: the transform's options.
      pipeline: the transform's pipeline.
      label: the transform's label, for errors.

    Raises:
      ArgumentError: no directory is known that all machines see.
    """
    if given.cluster is None or not given.cluster.is_spread:
        return None
    directory = given.spool_dir or default_directory(pipeline)
    if directory is None:
        raise ArgumentError(
            f'{label}: placement="spread" needs a directory in which the tasks of the cluster find each other: give '
            "spool_dir, or --temp_location, a directory that all workers see."
        )
    return directory.rstrip("/")

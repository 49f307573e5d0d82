"""Transport of the rows to the runs: through the shuffle, or as files in a spool directory."""

from __future__ import annotations

import functools
import logging
import tempfile
from typing import NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, TestOptions

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files import beam_files
from beam_tfscript.files.artifacts import runs_here
from beam_tfscript.files.old_directories import remove_old
from beam_tfscript.files.row_spool import job_directory
from beam_tfscript.files.shared_directory import cluster_directory
from beam_tfscript.files.uris import local_path, mask_uri
from beam_tfscript.options.script_options import ScriptOptions, TransformOptions
from beam_tfscript.transforms.job_end import call_at_end

_LOGGER = logging.getLogger(__name__)


class SpoolPlan(NamedTuple):
    """Plan of one application of a transform.

    Attributes:
      directory: the spool directory; None if all rows go through the shuffle.
      spool: "all" to spool all rows, "large" to spool those beyond a harness's share of the shuffle.
    """

    directory: str | None
    spool: str


NO_SPOOL = SpoolPlan(None, "large")


def plan_spool(given: TransformOptions, feed: str, rows: beam.PCollection, label: str) -> SpoolPlan:
    """Return the plan for an input.

    Args:
      given: the transform's options.
      feed: the feed, resolved.
      rows: the input.
      label: the transform's label, for errors.

    Raises:
      ArgumentError: `transport="files"` is not possible.
    """
    reason = ""
    if feed != "dataset":
        reason = f'rows go to the run as they come in feed="{feed}"'
    elif not rows.is_bounded:
        # A file may be removed only when no run can be repeated, and a stream's engine may go back to a checkpoint.
        reason = "the input is unbounded, and there is no time at which its files could be removed"
    elif given.transport != "shuffle":
        directory = given.spool_dir or default_directory(rows.pipeline)
        if directory is not None:
            return SpoolPlan(directory, "large" if given.transport is None else "all")
        reason = "no spool directory is known: give spool_dir, or --temp_location, a directory that all workers see"
    if given.transport == "files":
        raise ArgumentError(f'{label}: transport="files" is not possible: {reason}.')
    return NO_SPOOL


def default_directory(pipeline: beam.Pipeline) -> str | None:
    """Return the job's `temp_location` where all workers surely see it, or a local directory; None if none is known."""
    temp_location = pipeline.options.view_as(GoogleCloudOptions).temp_location
    if temp_location and (local_path(temp_location) is None or runs_here(pipeline)):
        return temp_location
    return tempfile.gettempdir() if runs_here(pipeline) else None


def remove_at_end(pipeline: beam.Pipeline, options: ScriptOptions) -> None:
    """Remove the job's directories of rows and of clusters when this process sees the job's end."""
    is_dry = pipeline.options.view_as(TestOptions).dry_run
    is_template = pipeline.options.view_as(GoogleCloudOptions).template_location is not None
    # Such jobs do not run, and Dataflow reports their end.
    if is_dry or is_template:
        return
    if options.spool_dir is not None:
        call_at_end(pipeline, functools.partial(_remove, job_directory(options.spool_dir, options.key)))
    if options.meeting_dir is not None:
        # The last machine that uses one of them removes it; those of machines that have died are left.
        prefix = cluster_directory(options.meeting_dir, options.key, "")
        call_at_end(pipeline, functools.partial(remove_old, prefix, age_s=float("-inf")))


def _remove(directory: str) -> None:
    try:
        beam_files.remove_tree(directory)
    except Exception as error:  # noqa: BLE001 - the job has ended, and its result must not change
        _LOGGER.warning("the spooled rows in %s cannot be removed: %s", mask_uri(directory), error)

"""Removal of spooled files behind the runs that have read them."""

# Annotations are not postponed here: Beam reads those of `process` as type hints.
import logging
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.typehints import KV

from beam_tfscript.files import beam_files
from beam_tfscript.files.row_spool import SpooledFile

_LOGGER = logging.getLogger(__name__)

SPOOLED_TAG = "spooled_files"
# Files are deleted in so many groups at a time.
_GROUPS = 32


def removable(files: Iterable[SpooledFile]) -> Iterator[TaggedOutput]:
    """Yield the names of files whose run is done, as outputs with `SPOOLED_TAG`."""
    for file in files:
        yield TaggedOutput(SPOOLED_TAG, file.path)


class RemoveSpool(beam.PTransform):
    """Delete files, whose names are the input, when all runs are done.

    A repeated run would miss its rows. On bounded input, a group in the global window is complete when all of its
    inputs are complete: then no run is repeated any more.
    """

    def expand(self, paths):
        """Add the stages."""
        return (
            paths
            | "WithGroup" >> beam.Map(_with_group).with_output_types(KV[int, str])
            | "Global" >> beam.WindowInto(GlobalWindows())
            | "AllRuns" >> beam.GroupByKey()
            | "Remove" >> beam.ParDo(_RemoveFiles())
        )


def _with_group(path: str) -> tuple[int, str]:
    return zlib.crc32(path.encode()) % _GROUPS, path


class _RemoveFiles(beam.DoFn):
    def process(self, element: tuple[int, Iterable[str]]) -> Iterator[Any]:
        _, paths = element
        try:
            beam_files.delete(list(paths))
        except OSError as error:
            # The runs are done, and the files will be removed with their directory.
            _LOGGER.warning("spooled rows cannot be removed yet: %s", error)
        yield from ()

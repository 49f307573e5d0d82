"""Limits of a process that is to serve another run: its number of runs, and its memory."""

from __future__ import annotations

import logging

from beam_tfscript.worker.activity import resident_bytes
from beam_tfscript.worker.process import ScriptProcess

_LOGGER = logging.getLogger(__name__)

_MIB = 1 << 20


def limit_reached(process: ScriptProcess) -> str | None:
    """Return the name of the limit for which a process must not serve another run; None if it may.

    Args:
      process: leased, between two runs.
    """
    spec = process.spec
    if spec.max_runs is not None and process.kept_run is None and process.runs >= spec.max_runs:
        _LOGGER.info("%s: process %d ends, as it has had max_runs=%d runs", spec.name, process.pid, spec.max_runs)
        return "max_runs"
    if spec.max_rss_bytes is not None and (used := resident_bytes(process.pid)) > spec.max_rss_bytes:
        _LOGGER.info(
            "%s: process %d ends, as it has %d MiB of resident memory, more than max_rss_bytes=%d (%d MiB)",
            spec.name, process.pid, used // _MIB, spec.max_rss_bytes, spec.max_rss_bytes // _MIB,
        )  # fmt: skip
        return "max_rss_bytes"
    return None

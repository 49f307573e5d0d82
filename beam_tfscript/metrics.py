"""Counters and distributions of the transform, in Beam's metrics: every name, its unit, and its meaning.

| name | unit | counted when |
| --- | --- | --- |
| `rows_in`, `bytes_in` | rows, bytes of Examples | rows are put into chunks, before the shuffle |
| `bytes_spooled` | bytes of TFRecords | rows are written to a file in `spool_dir`, before the shuffle |
| `rows_out`, `bytes_out` | rows, bytes of Examples | a run's outputs are decoded |
| `rows_bad` | rows | a row or an output goes to the dead letters |
| `doubles_rounded` | values | a `double` loses digits as float32 |
| `doubles_infinite` | values | a rounded `double` is beyond 3.4e38, and becomes infinite |
| `rows_unread` | rows | a script asks for the end of its feed (`config.stop()`) before it reads them |
| `rows_lost` | rows | a `stream` run without `replay` ends before it has done them, and they are no longer kept |
| `runs`, `runs_failed` | runs | an attempt of a run starts; fails |
| `runs_doubtful` | runs | a run ends well, but probably by mistake; not in `bundles`, nor in a cluster of `dataset` |
| `process_starts` | processes | a new process gets its first run; not in a cluster of `dataset` |
| `process_deaths` | processes | a process ends in the middle of a run, or is killed as it does not answer |
| `recycled_by_max_runs`, `recycled_by_max_rss_bytes` | processes | a process ends after a run, because of this limit |
| `process_start_ms` | milliseconds | a process starts, until TensorFlow is imported; in `dataset` without a cluster |
| `process_wait_ms` | milliseconds | a run waits for its process; not in a cluster of `dataset` |
| `load_ms` | milliseconds | a run imports the script and its modules, and gets to `main` |
| `run_ms` | milliseconds | a run goes from its request to its end; in `dataset` |

A script's own counts, by `config.counter` and `config.distribution`, are in the namespace `SCRIPT_NAMESPACE`.
Metrics of Beam: https://beam.apache.org/documentation/programming-guide/#metrics.
"""

from __future__ import annotations

import functools
from typing import Any

from apache_beam.metrics import Metrics

NAMESPACE = "beam_tfscript"
SCRIPT_NAMESPACE = "beam_tfscript.script"


@functools.lru_cache(maxsize=1024)
def _counter(namespace: str, name: str) -> Any:
    return Metrics.counter(namespace, name)


@functools.lru_cache(maxsize=1024)
def _distribution(namespace: str, name: str) -> Any:
    return Metrics.distribution(namespace, name)


def add(name: str, n: int = 1) -> None:
    """Add to a counter of the transform; must be called on the bundle's own thread."""
    if n:
        _counter(NAMESPACE, name).inc(n)


def observe_seconds(name: str, seconds: float) -> None:
    """Add a duration to a distribution of the transform whose unit is milliseconds."""
    _distribution(NAMESPACE, name).update(int(seconds * 1000))


def add_from_script(changes: dict[str, Any]) -> None:
    """Add the content of a METRICS frame of the script.

    Args:
      changes: `load_s`, seconds or None; `counters`, name -> increment; `distributions`, name -> list of values.
    """
    if changes["load_s"] is not None:
        observe_seconds("load_ms", changes["load_s"])
    for name, n in changes["counters"].items():
        _counter(SCRIPT_NAMESPACE, name).inc(n)
    for name, values in changes["distributions"].items():
        distribution = _distribution(SCRIPT_NAMESPACE, name)
        for value in values:
            distribution.update(value)

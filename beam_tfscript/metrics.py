"""What the transform counts, in Beam's metrics: every name, its unit, and where it is counted.

| name | unit | counted when |
| --- | --- | --- |
| `rows_in`, `bytes_in` | rows, bytes of Examples | rows are put into chunks, before the shuffle |
| `rows_out`, `bytes_out` | rows, bytes of Examples | a run's outputs are decoded |
| `rows_bad` | rows | a row or an output goes to the dead letters |
| `doubles_rounded` | values | a `double` loses digits as float32 |
| `doubles_infinite` | values | one of those is beyond 3.4e38, and becomes infinite |
| `rows_unread` | rows | a script has asked for the end of its feed (`config.stop()`) before it read them |
| `rows_lost` | rows | a `stream` run without `replay` is gone that had not done them, and they are not kept any more |
| `runs`, `runs_failed` | runs | an attempt of a run starts; fails |
| `runs_doubtful` | runs | one ends well, but probably by mistake; not in `bundles`, nor in a cluster of `dataset` |
| `process_starts` | processes | a new process serves its first run; not in a cluster of `dataset` |
| `process_deaths` | processes | one ends in the middle of a run, or is killed as it does not answer |
| `process_start_ms` | milliseconds | a process's start, until TensorFlow is imported; in `dataset` without a cluster |
| `process_wait_ms` | milliseconds | what a run waited for its process; not in a cluster of `dataset` |
| `load_ms` | milliseconds | the import of the script and of what it imports, in a run that gets to `main` |
| `run_ms` | milliseconds | a run, from its request to its end; in `dataset` |

What the script counts by `config.counter` and `config.distribution` is in a namespace of its own.
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
    """Adds to a counter of the transform; must be called on the bundle's own thread."""
    if n:
        _counter(NAMESPACE, name).inc(n)


def observe_seconds(name: str, seconds: float) -> None:
    """Adds a duration to a distribution of the transform whose unit is milliseconds."""
    _distribution(NAMESPACE, name).update(int(seconds * 1000))


def add_from_script(changes: dict[str, Any]) -> None:
    """Adds what a METRICS frame of the script brought."""
    if changes["load_s"] is not None:
        observe_seconds("load_ms", changes["load_s"])
    for name, n in changes["counters"].items():
        _counter(SCRIPT_NAMESPACE, name).inc(n)
    for name, values in changes["distributions"].items():
        distribution = _distribution(SCRIPT_NAMESPACE, name)
        for value in values:
            distribution.update(value)

"""What the transform counts, in Beam's metrics: every name, its unit, and where it is counted.

| name | unit | counted when |
| --- | --- | --- |
| `rows_in`, `bytes_in` | rows, bytes of Examples | rows are put into chunks, before the shuffle |
| `rows_out`, `bytes_out` | rows, bytes of Examples | a run's outputs are decoded |
| `rows_bad` | rows | a row or an output goes to the dead letters |
| `doubles_rounded` | values | a `double` loses digits as float32 |
| `rows_unread` | rows | a script has asked for the end of its feed (`config.stop()`) before it read them |
| `rows_lost` | rows | a `stream` run without `replay` is gone, and had not done them |
| `runs`, `runs_failed` | runs | an attempt of a run starts; fails |
| `process_starts`, `process_deaths` | processes | a new process serves its first run; one ends in the middle of a run |
| `process_start_ms` | milliseconds | the start of a process, until TensorFlow is imported |
| `process_wait_ms` | milliseconds | what a run waited for its process |
| `load_ms` | milliseconds | the import of the script and of what it imports, in a run that gets to `main` |
| `run_ms` | milliseconds | a run, from its request to its end |

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

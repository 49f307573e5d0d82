"""Pool of script processes that tests of one session share: importing TensorFlow costs 5 s, and most tests need it.

A process is shared only if a run on it finds all as on a new one: no `env`, the same variables of this process, and
no run that goes on in it. Every other process ends as soon as in a test with a pool of its own.
"""

from __future__ import annotations

import os

from beam_tfscript.worker.device_leases import DeviceLease
from beam_tfscript.worker.idle import IdleProcesses
from beam_tfscript.worker.pool import ProcessPool
from beam_tfscript.worker.process import ScriptProcess
from beam_tfscript.worker.process_spec import ProcessSpec
from beam_tfscript.worker.users import Users

# Time that a shared process waits for the next test.
_WARM_S = 120.0
# Shared processes that wait at the end of a test; each holds some 400 MiB.
_MAX_IDLE = 3
# Variable that is set while a test starts processes without TensorFlow: those are cheap, and not shared.
WITHOUT_TENSORFLOW = "BEAM_TFSCRIPT_TEST_WITHOUT_TENSORFLOW"
_VARIABLES = "_beam_tfscript_test_variables"


class WarmPool(ProcessPool):
    """Pool whose idle processes with TensorFlow outlive the tests that started them."""

    def __init__(self) -> None:
        super().__init__()
        self._idle = _WarmIdleProcesses(self._users)

    def trim(self) -> None:
        """End the oldest idle processes that are more than may wait."""
        with self._changed:
            surplus = sorted(self._idle._since, key=self._idle._since.__getitem__)[:-_MAX_IDLE]
            for process in surplus:
                del self._idle._since[process]
            self._endings.announce(*surplus)
        self._endings.end(kill=(), close=surplus)

    def _start(self, spec: ProcessSpec, devices: DeviceLease | None) -> ScriptProcess:
        variables = _variables()
        process = super()._start(spec, devices)
        setattr(process, _VARIABLES, variables)
        fits = process.fits
        process.fits = lambda spec: variables == _variables() and fits(spec)  # type: ignore[method-assign]
        return process


class _WarmIdleProcesses(IdleProcesses):
    def __init__(self, users: Users) -> None:
        super().__init__(users)

    def _until(self, process: ScriptProcess, idle_s: float, unused_s: float) -> float:
        if is_shared(process):
            idle_s, unused_s = max(idle_s, _WARM_S), _WARM_S
        return super()._until(process, idle_s, unused_s)


def is_shared(process: ScriptProcess) -> bool:
    """Return True if an idle process of a WarmPool waits for the next test."""
    is_blocked = (WITHOUT_TENSORFLOW, "1") in getattr(process, _VARIABLES)
    return process.kept_run is None and process.devices is None and not process.spec.env and not is_blocked


def _variables() -> frozenset[tuple[str, str]]:
    """Environment variables that a process started now would get, without pytest's own."""
    return frozenset((name, value) for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST")

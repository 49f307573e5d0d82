"""Fixtures of all tests: a temporary directory of their own, engines, and nothing left behind."""

from __future__ import annotations

import logging
import os
import tempfile

import pytest

from tests.leaks import assert_nothing_left
from tests.running import ENGINES, Runner


@pytest.fixture(autouse=True)
def scratch_parent(tmp_path_factory, monkeypatch, caplog):
    """Each test's scratch directories are its own, so that tests side by side do not see each other's."""
    directory = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    with assert_nothing_left():
        yield directory
        # Log records hold tracebacks, and those hold the DoFns of the bundles that failed.
        for phase in ("setup", "call"):
            caplog.get_records(phase).clear()
        caplog.clear()


@pytest.fixture(params=sorted(ENGINES))
def runner(request, tmp_path, monkeypatch):
    """Runs a transform on one of the engines of the local runner."""
    if request.param == "bundle_based":
        # It does not tear down the DoFns of a bundle that failed: what they used ends when it is idle for long.
        monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    return Runner(request.param, tmp_path)


@pytest.fixture
def in_memory(tmp_path):
    """Runs a transform on the in-memory engine."""
    return Runner("in_memory", tmp_path)


@pytest.fixture(autouse=True)
def log_level():
    """What scripts print is logged at INFO."""
    logging.getLogger().setLevel(logging.INFO)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where all parts must be there (`BEAM_TFSCRIPT_NO_SKIPS=1`, as in CI), a skipped test is a failed one."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("BEAM_TFSCRIPT_NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"

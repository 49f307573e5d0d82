"""Fixtures of all tests: a temporary directory of their own, engines, and nothing left behind."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import sys
import tempfile

import pytest

from beam_tfscript.python_env import environment
from beam_tfscript.python_env.python_env import PythonEnv
from beam_tfscript.worker import process_group
from tests import checks, warm
from tests.cluster_jobs import cluster, cluster_directory  # noqa: F401 - fixtures
from tests.engines import ENGINES
from tests.engines.server import started
from tests.engines.tools import ToolMissing
from tests.leaks import assert_nothing_left
from tests.running import SCRIPTS_PYTHON, Runner
from tests.warm import WarmPool
from tests.without_tensorflow import BLOCKED, LEAN


@pytest.fixture(scope="session")
def warm_pool():
    """Pool of the processes that tests share."""
    pool = WarmPool()
    yield pool
    pool.shutdown()


@pytest.fixture(autouse=True)
def scratch_parent(request, tmp_path_factory, monkeypatch, caplog, warm_pool):
    """Give each test a temporary directory of its own and a pool; fail the test if it leaves anything behind.

    The pool is the session's, or a new one where the test is marked `cold`.
    """
    directory = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    is_cold = request.node.get_closest_marker("cold") is not None
    monkeypatch.setattr("beam_tfscript.worker.pool._pool", None if is_cold else warm_pool)
    # The leak check waits this long for processes that no test shares.
    monkeypatch.setattr("beam_tfscript.worker.pool.UNUSED_GRACE_S", 0.3)
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    has_job_server = parameters.get("engine") in ENGINES or request.node.get_closest_marker("job_server") is not None
    with assert_nothing_left(but_tcp=has_job_server, warm=warm_pool):
        yield directory
        # Log records hold tracebacks, and those hold the DoFns of the bundles that failed.
        for phase in ("setup", "call"):
            caplog.get_records(phase).clear()
        caplog.clear()
        warm_pool.trim()


@pytest.fixture(autouse=True)
def packages_of_scripts(request, monkeypatch):
    """Start script processes without TensorFlow, unless the test is marked `tensorflow`: they start 50 times faster.

    Not in the interpreters of `make test-envs`: the faults there are those of a process that has their TensorFlow.
    """
    if sys.executable != SCRIPTS_PYTHON:
        return
    has_tensorflow = request.node.get_closest_marker("tensorflow") is not None
    path = LEAN if has_tensorflow else BLOCKED
    make = process_group.make_environment

    def make_with_path(spec, *arguments):
        if "PYTHONPATH" not in spec.env:
            spec = dataclasses.replace(spec, env={**spec.env, "PYTHONPATH": path})
        return make(spec, *arguments)

    monkeypatch.setattr(process_group, "make_environment", make_with_path)
    if not has_tensorflow:
        # Not for the script: by this variable, processes of the two kinds are told apart (tests/warm.py).
        monkeypatch.setenv(warm.WITHOUT_TENSORFLOW, "1")


@pytest.fixture(autouse=True)
def scripts_python(monkeypatch):
    """Run scripts in the interpreter under test."""
    if sys.executable != SCRIPTS_PYTHON:
        found = environment.find_interpreter
        monkeypatch.setattr(
            "beam_tfscript.dofns.script_dofns.find_interpreter",
            lambda env: SCRIPTS_PYTHON if env == PythonEnv() else found(env),
        )


@pytest.fixture(scope="session", autouse=True)
def shared_directory(tmp_path_factory):
    """Find the directory that the workers of one test run share; each has one of its own in it."""
    base = tmp_path_factory.getbasetemp()
    checks.shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def pytest_collection_finish():
    """Exempt imported modules from the garbage collections at the end of each test: they stay for good."""
    gc.collect()
    gc.freeze()


NO_SKIPS = os.environ.get("BEAM_TFSCRIPT_NO_SKIPS") == "1"
TESTED = os.environ.get("BEAM_TFSCRIPT_TEST_ENGINES", "bundle_based,in_memory").split(",")


@pytest.fixture(scope="session", params=TESTED)
def engine(request, tmp_path_factory):
    """Start the job server of an engine under test, if it has one; give the engine's name and its pipeline options."""
    if request.param not in ENGINES:
        yield request.param, ()
        return
    module = ENGINES[request.param]
    try:
        module.build()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    with started(module, tmp_path_factory.mktemp(request.param)) as address:
        yield request.param, (f"--job_endpoint={address}", "--environment_type=LOOPBACK", *module.OPTIONS)


@pytest.fixture
def runner(engine, tmp_path, monkeypatch):
    """Runner on one of the engines under test."""
    name, options = engine
    if name == "bundle_based":
        # It does not tear down the DoFns of a bundle that failed: what they used ends when it is idle for long.
        monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    if name in ENGINES:
        # Where a job server is the first to close a connection, Beam's worker fails before it tears down its DoFns, and
        # what tears them down is that they are idle for long. A worker of its own process would just have ended.
        idle_s = "apache_beam.runners.worker.sdk_worker.DEFAULT_BUNDLE_PROCESSOR_CACHE_SHUTDOWN_THRESHOLD_S"
        # Spark's job server does so at the end of many jobs.
        monkeypatch.setattr(idle_s, 2.0 if name == "spark" else 5.0)
    return Runner(name, tmp_path, options)


@pytest.fixture
def in_memory(tmp_path):
    """Runner on the in-memory engine."""
    return Runner("in_memory", tmp_path)


@pytest.fixture(autouse=True)
def log_level():
    """Log the lines that scripts print: their level is INFO."""
    logging.getLogger().setLevel(logging.INFO)


# Files whose every test is for one engine.
ONE_ENGINE = {
    "test_cluster_batch.py": "cluster",
    "test_cluster_scale.py": "cluster",
    "test_flink_cluster.py": "cluster",
    "test_flink_restart.py": "flink",
    "test_flink_spread.py": "cluster",
    "test_flink_spread_restarts.py": "cluster",
    "test_spark.py": "spark",
    "test_kafka.py": "flink",
}
# `installed` is run where the wheel is installed (`make test-install`).
collect_ignore = ["installed"] + [name for name, engine in ONE_ENGINE.items() if engine not in TESTED]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Fail each skipped test where no tool may be missing (`BEAM_TFSCRIPT_NO_SKIPS=1`, as in CI)."""
    outcome = yield
    _refuse_skip(outcome.get_result())


def pytest_terminal_summary(terminalreporter):
    """Show why a test was run again: it may pass the second time."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"first try of {report.nodeid}, {report.when}")
        terminalreporter.line(str(report.longrepr)[-4000:])


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    """Fail each module that skips itself as a whole, as by `importorskip` at its top."""
    outcome = yield
    _refuse_skip(outcome.get_result())


def _refuse_skip(report):
    if report.skipped and NO_SKIPS and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"

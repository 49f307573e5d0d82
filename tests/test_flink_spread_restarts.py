"""A cluster with placement="spread" on a Flink of two machines that restarts jobs (`make test-cluster`)."""

from __future__ import annotations

import os
import time

import pytest

from tests.cluster_jobs import CUT_S, RESTARTS, run_cluster
from tests.test_flink_spread import LONG_S, counting, kill_workers, log_of, rows_of, start
from tests.training import read_row

pytestmark = [pytest.mark.job_server, pytest.mark.tensorflow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start a cluster whose jobs restart."""
    yield from run_cluster(tmp_path_factory, RESTARTS)


@pytest.mark.parametrize("fault", ["worker", "network"])
def test_training_goes_on_from_its_checkpoint_when_the_job_restarts(cluster, cluster_directory, fault):
    job = start(cluster, counting(cluster_directory, max_attempts=2, cluster_timeout=90))
    cluster.wait_until(lambda: "waits 18 1" in log_of(cluster_directory), LONG_S)
    if fault == "worker":
        assert kill_workers(cluster.machines[1])
        (cluster_directory / "go").touch()
    else:
        with cluster.machines[1].without_network():
            (cluster_directory / "go").touch()
            time.sleep(CUT_S)
    (row,) = map(read_row, rows_of(job))
    assert row["metrics"]["count"] == 30 and row["metrics"]["hosts"] == 2
    # Not from the first step again. The chief may be on the other machine, and have reached its end.
    assert row["metrics"]["begin"] in (15, 30)
    assert sorted(os.listdir(cluster_directory / "models")) == [".publishing", "1"]

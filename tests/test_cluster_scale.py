"""Ten million rows on a Flink cluster of two machines, one of which is killed half way (`make test-cluster-scale`)."""

from __future__ import annotations

import logging
import time

import apache_beam as beam
import pytest

from beam_tfscript import RunTFScript
from benchmarks import scale_jobs
from tests.cluster_jobs import RESTARTS, SOON_S, BatchJob, run_cluster, wait_until_clean
from tests.running import script

pytestmark = [pytest.mark.job_server, pytest.mark.tensorflow, pytest.mark.large, pytest.mark.timeout(1500)]
log = logging.getLogger(__name__)
ROWS, SHARDS = 10_000_000, 32


class CountAndAdd(beam.CombineFn):
    """The number of rows and the sum of their ids: a row that is missing or doubled changes them."""

    def create_accumulator(self):
        return 0, 0

    def add_input(self, accumulator, row):
        return accumulator[0] + 1, accumulator[1] + row.id

    def merge_accumulators(self, accumulators):
        counts, totals = zip(*accumulators)
        return sum(counts), sum(totals)

    def extract_output(self, accumulator):
        return {"rows": accumulator[0], "ids": accumulator[1]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start a cluster that restarts batch jobs."""
    yield from run_cluster(tmp_path_factory, RESTARTS)


@pytest.mark.parametrize("transport", ["shuffle", "files"])
def test_ten_million_rows_come_once_though_a_machine_is_killed(cluster, transport):
    marks = cluster.make_shared_directory()
    spool = cluster.make_shared_directory()

    def build(pipeline):
        parts = [(first, 10_000) for first in range(0, ROWS, 10_000)]
        rows = pipeline | beam.Create(parts) | beam.ParDo(scale_jobs.MakeRows()).with_output_types(dict)
        transform = RunTFScript(
            script("copies.py"), scale_jobs.SCHEMA, input_schema=scale_jobs.SCHEMA, num_workers=SHARDS,
            user_params={"marks": str(marks)}, transport=transport, spool_dir=str(spool),
        )  # fmt: skip
        return rows | transform | beam.CombineGlobally(CountAndAdd())

    begin = time.monotonic()
    running = BatchJob(cluster, build)
    cluster.wait_until(lambda: len(list(marks.iterdir())) >= SHARDS // 2, 900)
    half_s = time.monotonic() - begin
    cluster.kill_task_manager(0)
    cluster.start_task_manager(0)
    running.wait(900)
    log.info("%s: half after %.0f s, killed, done after %.0f s", transport, half_s, time.monotonic() - begin)
    assert running.rows() == [{"rows": ROWS, "ids": ROWS * (ROWS - 1) // 2}]
    assert len({path.name.rpartition("-")[0] for path in marks.iterdir()}) == SHARDS
    assert not any(spool.iterdir())
    cluster.wait_until(lambda: cluster.get("/overview")["taskmanagers"] == len(cluster.machines), SOON_S)
    wait_until_clean(cluster)

"""Clusters in the `stream` feed: uneven shards, tasks that read late or never, and what waiting for them costs."""

from __future__ import annotations

import collections
import time

import apache_beam as beam
import pyarrow as pa
import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.data.chunks import shards_of
from tests.running import script
from tests.without_tensorflow import blocked

# Values of `part` whose rows go to the chief, and to the worker.
PARTS = dict(zip(shards_of(pa.array(list("abcdefgh")), 2), "abcdefgh"))


def cluster(tmp_path, entry, **arguments):
    """The transform with a chief and a worker, of whose rows `part` decides."""
    arguments = {"feed": "stream", "max_attempts": 1, **arguments}
    return RunTFScript(
        script("feed_clusters.py"), "size bigint, task string", entry=entry, num_workers=2, placement="one_host",
        input_schema="id string, part string", shard_by="part", env=blocked(tmp_path), **arguments,
    )  # fmt: skip


def rows_of(*counts, size=10):
    """Rows of shards in this order: (shard, how many)."""
    return [{"id": "x" * size, "part": PARTS[shard]} for shard, count in counts for _ in range(count)]


def tasks(rows):
    return collections.Counter(row["task"] for row in rows)


@pytest.mark.parametrize("memory", [4 << 20, 0], ids=["in memory", "on disk"])
def test_task_that_does_not_read_does_not_stop_the_feed_of_the_others(in_memory, tmp_path, monkeypatch, memory):
    """Neither task would ever read on: the worker waits for the chief, and the chief's rows are behind the worker's."""
    monkeypatch.setattr("beam_tfscript.feeds.fed_run.IN_FLIGHT_BYTES", 1 << 20)
    monkeypatch.setattr("beam_tfscript.feeds.row_backlog._MEMORY_BYTES", memory)
    rows = rows_of((0, 10), (1, 300), (0, 190), (1, 300), size=10_000)
    params = {"mark": str(tmp_path / "mark"), "rows": 200}
    found = in_memory.run(cluster(tmp_path, "worker_waits_for_the_chief", user_params=params), rows)
    assert tasks(found) == {"chief:0": 200, "worker:0": 600}


def test_rows_beyond_the_sockets_buffer_reach_a_task_that_reads_late(in_memory, tmp_path):
    transform = cluster(tmp_path, "reads_late", user_params={"seconds": 1})
    assert tasks(in_memory.run(transform, rows_of((0, 8000), (1, 8000)))) == {"chief:0": 8000, "worker:0": 8000}


def test_feed_that_waits_for_a_slow_task_does_not_spin(in_memory, tmp_path, monkeypatch):
    monkeypatch.setattr("beam_tfscript.feeds.fed_run.IN_FLIGHT_BYTES", 1 << 20)
    rows = rows_of((0, 300), (1, 300), size=10_000)
    used = {}
    for seconds in (0, 4):
        begin = time.process_time()
        transform = cluster(tmp_path, "reads_late", user_params={"seconds": seconds})
        assert len(in_memory.run(transform, rows)) == 600
        used[seconds] = time.process_time() - begin
    assert used[4] - used[0] < 1.5


@pytest.mark.parametrize("feed", ["stream", "dataset"])
def test_large_parameters_reach_every_task(in_memory, tmp_path, feed):
    entry = "reads_late" if feed == "stream" else "counts_parameters"
    params = {"seconds": 0, "large": "x" * (1 << 20)}
    rows = in_memory.run(cluster(tmp_path, entry, feed=feed, user_params=params), rows_of((0, 5), (1, 5)))
    assert set(tasks(rows)) == {"chief:0", "worker:0"}


def test_killed_task_is_noticed_though_a_child_of_it_holds_the_socket(in_memory, tmp_path):
    begin = time.monotonic()
    with pytest.raises(Exception, match=r"worker:0.*SIGKILL"):
        in_memory.run(cluster(tmp_path, "worker_leaves_a_child_and_dies"), rows_of((0, 100), (1, 100)))
    assert time.monotonic() - begin < 60


def test_relative_paths_are_the_same_for_all_tasks(in_memory, tmp_path):
    assert len(in_memory.run(cluster(tmp_path, "share_a_directory"), rows_of((0, 5), (1, 5)))) == 10


def test_rows_that_are_done_while_a_failure_is_looked_into_are_not_lost(in_memory, tmp_path):
    """The root failure is found by hearing all tasks, and outputs of its peers are dropped meanwhile."""
    params = {"seconds": 0.1}
    transform = cluster(
        tmp_path, "worker_raises_while_the_chief_goes_on", user_params=params, max_attempts=2, replay=False
    )
    rows = in_memory.run(transform, rows_of((0, 200), (1, 50)))
    assert tasks(rows) == {"chief:0": 200, "worker:0": 50}
    assert in_memory.metrics["runs_failed"] == 1


def run_unbounded(tmp_path, monkeypatch, transform, counts, seconds):
    """The rows that come of so many for each second, in one window."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.testing.test_stream import TestStream
    from apache_beam.transforms.window import FixedWindows, TimestampedValue

    from tests.running import ENGINES, SaveOutputs, _load

    monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    stream = TestStream().advance_watermark_to(0)
    for second in range(seconds):
        rows = rows_of(*counts, size=5_000)
        stream = stream.add_elements([TimestampedValue(row, second) for row in rows])
    directory = tmp_path / "outputs"
    directory.mkdir()
    pipeline = beam.Pipeline(ENGINES["bundle_based"], options=PipelineOptions(["--streaming"]))
    windowed = pipeline | stream.advance_watermark_to_infinity() | beam.WindowInto(FixedWindows(100))
    _ = windowed | transform | beam.ParDo(SaveOutputs(str(directory)))
    pipeline.run().wait_until_finish()
    return [output.row for output in _load(directory)]


def test_unbounded_rows_are_given_back_once_though_a_task_reads_late(tmp_path, monkeypatch):
    monkeypatch.setattr("beam_tfscript.feeds.fed_run.IN_FLIGHT_BYTES", 1 << 20)
    params = {"mark": str(tmp_path / "mark"), "rows": 50}
    transform = cluster(tmp_path, "worker_waits_for_the_chief", user_params=params, replay=False)
    rows = run_unbounded(tmp_path, monkeypatch, transform, [(1, 100), (0, 10)], 5)
    assert tasks(rows) == {"chief:0": 50, "worker:0": 500}


@pytest.mark.parametrize("replay", [True, False])
def test_rows_of_a_worker_that_asks_for_the_end_are_unread_and_the_chief_goes_on(tmp_path, monkeypatch, replay):
    counted = collections.Counter()
    monkeypatch.setattr("beam_tfscript.metrics.add", lambda name, n=1: counted.update({name: n}))
    rows = run_unbounded(tmp_path, monkeypatch, cluster(tmp_path, "worker_stops", replay=replay), [(0, 10), (1, 10)], 5)
    assert tasks(rows) == {"chief:0": 50, "worker:0": 1}
    assert counted["rows_unread"] == 49 and not counted["rows_lost"]

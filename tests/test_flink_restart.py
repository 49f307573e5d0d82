"""Checkpoints on Flink, and what comes of a `stream` when a job goes back to one (`make test-flink`)."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows

from beam_tfscript import RunTFScript
from beam_tfscript.worker.pool import get_pool
from tests.running import script
from tests.unbounded import OUTPUT, FailOnce, Pause, Watermark, rows, run_stream

pytestmark = pytest.mark.tensorflow

CHECKPOINTS = (
    "--checkpointing_interval=500",
    # Without it, outputs that go into a GroupByKey vanish.
    "--finish_bundle_before_checkpointing",
    "--shutdown_sources_after_idle_ms=2000",
)
RESTARTS = ("--number_of_execution_retries=2", "--execution_retry_delay=200")
WINDOWS = beam.WindowInto(FixedWindows(10))
EVENTS = [
    Watermark(0),
    rows(1, 2, 3, 11),
    Pause(3),
    rows(4, 12),
    Watermark(8),
    Pause(4),
    rows(5, 13, 14),
    Pause(2),
    Watermark(15),
    rows(16),
]
FIRST, SECOND = [1, 2, 3, 4, 5], [11, 12, 13, 14, 16]


@pytest.fixture(autouse=True)
def short_idle_time(monkeypatch):
    """The worker does not tear down the DoFns of a bundle that failed: what they used ends when it is idle for long."""
    monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)


@pytest.fixture
def worker_that_ends():
    """Ends what the worker has, as a process of its own would end with its job.

    Where a job goes back while the worker asks for a state, Beam's thread waits for the answer for ever, with its DoFn.
    """
    yield
    get_pool().shutdown()


def traced(entry="trace", **arguments):
    return RunTFScript(
        script("streams.py"), OUTPUT, input_schema="id string", entry=entry, num_workers=2, poll_interval=0.2,
        **arguments,
    )  # fmt: skip


def test_each_row_is_given_back_once_while_checkpoints_are_taken(runner):
    streamed = run_stream(runner, EVENTS, traced(), WINDOWS, options=CHECKPOINTS)
    assert streamed.ids(window=(0, 10)) == FIRST and streamed.ids(window=(10, 20)) == SECOND
    assert streamed.counted[0, 10] == len(streamed.at(window=(0, 10)))
    assert streamed.counted[10, 20] == len(streamed.at(window=(10, 20)))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.usefixtures("worker_that_ends")
def test_each_row_is_given_back_at_least_once_when_the_job_goes_back_to_a_checkpoint(runner, tmp_path, before):
    failing = beam.ParDo(FailOnce("5", str(tmp_path / "failed"))).with_output_types(dict)
    streamed = run_stream(
        runner, EVENTS, traced(), WINDOWS | failing if before else WINDOWS,
        after=None if before else failing, options=[*CHECKPOINTS, *RESTARTS],
    )  # fmt: skip
    assert (tmp_path / "failed").exists()
    assert set(streamed.ids(window=(0, 10))) == set(FIRST) and set(streamed.ids(window=(10, 20))) == set(SECOND)
    assert streamed.counted[0, 10] >= len(FIRST) and streamed.counted[10, 20] >= len(SECOND)


@pytest.mark.parametrize(
    ("entry", "message"),
    [("leaves_early", "main returned, but"), ("raises_at", "the script raised ValueError")],
)
def test_script_that_cannot_go_on_fails_the_job(runner, tmp_path, entry, message):
    parameters = {"id": "2", "times": 99, "marks": str(tmp_path / "marks")}
    transform = RunTFScript(
        script("streams.py"), OUTPUT, input_schema="id string", entry=entry, user_params=parameters, max_attempts=1
    )
    with pytest.raises(Exception, match=message):
        run_stream(runner, [Watermark(0), rows(1, 2), Pause(3), rows(3)], transform, WINDOWS)

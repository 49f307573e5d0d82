"""Devices of runs that go on between bundles: waited for in the runner's state, and given up by runs without news."""

from __future__ import annotations

import time

import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.dofns.run_stream import StreamShards
from beam_tfscript.worker.pool import get_pool
from tests.running import script
from tests.stages import Shard, stream_options
from tests.unbounded import OUTPUT
from tests.without_tensorflow import blocked

pytestmark = pytest.mark.cold


@pytest.fixture
def dofn(tmp_path, monkeypatch):
    """A stage whose runs need the machine's only device; there may be as many processes as there are runs."""
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATOR_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATORS", "0")
    transform = RunTFScript(
        script("streams.py"), OUTPUT, input_schema="id string", entry="trace", feed="stream", max_processes=8,
        accelerators_per_process=1, user_params={"raw": True}, env=blocked(tmp_path),
    )  # fmt: skip
    made = StreamShards(stream_options(transform), None)
    made.setup()
    yield made
    made.teardown()


def test_run_waits_in_state_for_a_device(dofn):
    first, second = Shard(dofn, 0), Shard(dofn, 1)
    first.bring("a")
    begin = time.monotonic()
    assert second.bring("b") == [] and time.monotonic() - begin < 2
    assert second.poll.due is not None and second.rows.values
    second.fire_poll()
    assert second.poll.due is not None
    first.poll_until("a")
    first.fire_end()
    second.poll_until("b")
    second.fire_end()
    assert first.ids() == ["a", "end"] and second.ids() == ["b", "end"]


def test_end_of_a_window_gets_the_device_of_a_run_without_news(dofn, monkeypatch):
    """One bundle at a time, as on a runner with one thread: the end of the run that has the device comes later."""
    first, second = Shard(dofn, 0), Shard(dofn, 1)
    first.bring("a")
    first.poll_until("a")
    second.bring("b")
    monkeypatch.setattr("beam_tfscript.worker.live_runs.STALE_AFTER_S", 1.0)
    monkeypatch.setattr("beam_tfscript.worker.pool._REAPER_TICK_S", 0.2)
    second.fire_end()
    assert second.ids() == ["b", "end"]
    # The rows of the other run are replayed, as after the death of its process.
    first.fire_end()
    assert first.ids() == ["a", "a", "end"]


def test_run_without_news_keeps_its_device_while_nothing_waits(dofn, monkeypatch):
    shard = Shard(dofn)
    shard.bring("a")
    shard.poll_until("a")
    monkeypatch.setattr("beam_tfscript.worker.live_runs.STALE_AFTER_S", 0.0)
    monkeypatch.setattr("beam_tfscript.worker.pool._REAPER_TICK_S", 0.1)
    time.sleep(3)
    assert len(get_pool().live_runs._runs) == 1
    shard.fire_end()
    assert shard.ids() == ["a", "end"]

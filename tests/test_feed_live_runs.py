"""A live run of a cluster without processes: the order of a chief's model and a worker's failure."""

from __future__ import annotations

import types

import pytest

from beam_tfscript.cluster.counts import Counts
from beam_tfscript.cluster.tf_config import make_tasks
from beam_tfscript.errors import FeedError, ScriptDied, ScriptRaised
from beam_tfscript.feeds.live_run import LiveRun
from beam_tfscript.feeds.run import RunRequest
from beam_tfscript.runtime.transport import wire
from beam_tfscript.worker.channel import ChannelClosed

CHIEF, WORKER = make_tasks(Counts(2, 0, 0))
FAILED = {
    "phase": "main", "type": "ValueError", "message": "no", "traceback": "ValueError: no", "summary": "s.py: no",
    "python": "python", "at": 1.0,
}  # fmt: skip
DONE = {"leftovers": [], "reusable": True, "doubt": None, "stopped": False, "taken": 0}


class FrameChannel:
    """The frames of one process, then its end."""

    def __init__(self, frames, *, ends):
        self._frames = [wire.control_frame(wire.STARTED), wire.ack_frame(0, 4), *frames]
        self._ends = ends

    def receive(self, timeout_s):
        if self._frames:
            return self._frames.pop(0)
        if self._ends:
            raise ChannelClosed
        return None

    def send(self, frame):
        pass

    def register(self, poll):
        return 0.0


def process(frames, *, ends=False):
    return types.SimpleNamespace(
        channel=FrameChannel(frames, ends=ends), ready={}, runs=0, pid=1, returncode=-9, label="",
        spec=types.SimpleNamespace(start_timeout_s=60), printed=lambda: "", died=lambda label: ScriptDied(label),
    )  # fmt: skip


def start(tmp_path, of_chief, of_worker):
    """A run of these processes, each given four rows."""
    run = LiveRun("key")
    run.lease([of_chief, of_worker])
    run.start([CHIEF, WORKER], lambda task: RunRequest(str(task), {"feed": "stream"}, 60.0), str(tmp_path))
    for task in run.tasks.values():
        task.given = 4
    return run


def model():
    return [wire.control_frame(wire.EXPORT, {"number": 1, "rows": 4}), wire.ack_frame(4, 4)]


def test_model_has_the_rows_that_a_worker_was_done_with_before(tmp_path):
    run = start(tmp_path, process(model()), process([wire.ack_frame(3, 4)]))
    (exported,) = run.collect()
    assert exported.json()["dataset_lengths"] == [4, 3]


@pytest.mark.parametrize(
    ("frames", "ends", "error"),
    [
        ([wire.control_frame(wire.FAILED, FAILED)], False, ScriptRaised),
        ([wire.control_frame(wire.DONE, DONE)], False, FeedError),
        ([], True, ScriptDied),
    ],
    ids=["raised", "returned", "died"],
)
def test_model_is_not_lost_with_a_worker_that_failed_later(tmp_path, monkeypatch, frames, ends, error):
    monkeypatch.setattr("beam_tfscript.feeds.run_group._ROOT_CAUSE_S", 0.1)
    run = start(tmp_path, process(model()), process([wire.ack_frame(3, 4), *frames], ends=ends))
    collected = run.collect()
    assert next(collected).json()["dataset_lengths"] == [4, 3]
    with pytest.raises(error, match="worker:0"):
        next(collected)
    # Else the model's rows would be fed again to the next run.
    assert run.done() == {0: 4, 1: 3}

"""The retry policy and the demultiplexer of all feeds, without a process."""

from __future__ import annotations

import collections
import json
import pickle

import pytest

from beam_tfscript.errors import FeedError, ProtocolError, ScriptDied, ScriptRaised
from beam_tfscript.feeds.demultiplexer import Demultiplexer, Model, Rows
from beam_tfscript.feeds.failures import IdleProcessDied
from beam_tfscript.feeds.retries import Failures, Retries, repeat_whole
from beam_tfscript.feeds.spool import OutputSpool
from beam_tfscript.feeds.stream_state import StreamState
from beam_tfscript.runtime.transport import wire


@pytest.fixture
def counted(monkeypatch):
    """Counts, by name."""
    found = collections.Counter()
    monkeypatch.setattr("beam_tfscript.metrics.add", lambda name, n=1: found.update({name: int(n)}))
    return found


class Attempts:
    """Attempts that fail with the given errors, one after the other, and then end well.

    Attributes:
      numbers: of the attempts that were made.
    """

    def __init__(self, *errors):
        self._errors = list(errors)
        self.numbers = []

    def __call__(self, number):
        self.numbers.append(number)
        yield wire.records_frame(wire.EXAMPLES, [b"%d" % len(self.numbers)])
        if self._errors:
            raise self._errors.pop(0)


def repeat(attempts, tmp_path, max_attempts):
    spool = OutputSpool(str(tmp_path / "outputs"))
    return [frame.records() for frame in repeat_whole(attempts, Retries(max_attempts), spool, "Again.")]


class TestRepeat:
    def test_outputs_of_the_attempt_that_ends_well_go_downstream(self, counted, tmp_path, caplog):
        attempts = Attempts(ScriptDied("first"), ScriptRaised("second"))
        assert repeat(attempts, tmp_path, 3) == [[b"3"]]
        assert attempts.numbers == [1, 2, 3]
        assert counted == {"runs": 3, "runs_failed": 2, "process_deaths": 1}
        assert [record.getMessage() for record in caplog.records] == ["first\nAgain.", "second\nAgain."]

    def test_last_attempt_raises_its_own_error(self, counted, tmp_path):
        with pytest.raises(ScriptRaised, match="^second$"):
            repeat(Attempts(ScriptRaised("first"), ScriptRaised("second")), tmp_path, 2)
        assert counted["runs"] == counted["runs_failed"] == 2

    def test_error_that_would_come_again_is_raised_at_once_and_counted(self, counted, tmp_path):
        attempts = Attempts(FeedError("main returned"))
        with pytest.raises(FeedError):
            repeat(attempts, tmp_path, 3)
        assert attempts.numbers == [1] and counted["runs_failed"] == 1

    @pytest.mark.parametrize("max_attempts", [1, 2])
    def test_process_that_died_while_it_was_idle_costs_no_attempt(self, counted, tmp_path, max_attempts):
        def attempts(number):
            numbers.append(number)
            if len(numbers) < 4:
                raise IdleProcessDied("ended before it took the run")
            yield wire.records_frame(wire.EXAMPLES, [b"a"])

        numbers = []
        assert repeat(attempts, tmp_path, max_attempts) == [[b"a"]]
        assert numbers == [1, 1, 1, 1] and counted["runs"] == 1
        assert counted["runs_failed"] == counted["process_deaths"] == 0


class TestRetries:
    def test_progress_ends_a_series_of_failures(self, counted):
        retries = Retries(2)
        for _ in range(5):
            assert retries.fail(ScriptDied("died"), "Again.")
            retries.note_progress()
        assert retries.attempt == 1

    def test_free_failure_is_counted_and_costs_no_attempt(self, counted):
        retries = Retries(1)
        assert retries.fail(ScriptDied("died"), "Again.", is_free=True)
        assert counted["process_deaths"] == counted["runs_failed"] == 1
        with pytest.raises(ScriptDied):
            retries.fail(ScriptDied("died"), "Again.")

    def test_work_may_be_given_up_after_the_last_attempt(self, counted, caplog):
        retries = Retries(1)
        assert not retries.fail(ScriptDied("died"), "Again.", last_step="Left out.")
        assert retries.attempt == 1 and caplog.messages == ["died\nLeft out."]
        with pytest.raises(FeedError):
            retries.fail(FeedError("unread"), "Again.", last_step="Left out.")

    def test_first_error_is_shown_if_later_ones_differ(self, counted):
        record = Failures(1, "first")
        with pytest.raises(ScriptRaised, match="(?s)^first\n.*first of 2 attempts .*: second$"):
            Retries(2, record, shows_first=True).fail(ScriptRaised("second"), "Again.")
        with pytest.raises(ScriptRaised, match="^first$"):
            Retries(2, Failures(1, "first"), shows_first=True).fail(ScriptRaised("first"), "Again.")


def test_error_of_an_idle_process_is_a_death_and_can_be_pickled():
    error = pickle.loads(pickle.dumps(IdleProcessDied("gone", returncode=-9)))
    assert isinstance(error, ScriptDied) and (str(error), error.returncode) == ("gone", -9)


class TestDemultiplexer:
    def test_metrics_are_counted_and_reports_are_left_out_as_outputs_pass(self, monkeypatch):
        counted = []
        monkeypatch.setattr("beam_tfscript.metrics.add_from_script", counted.append)
        frames = [
            wire.control_frame(wire.METRICS, {"a": 1}),
            wire.records_frame(wire.EXAMPLES, [b"x", b"y"]),
            wire.control_frame(wire.REPORT, {"loss": 0.5}),
            wire.control_frame(wire.EXPORT, {"number": 1}),
        ]
        demultiplexer = Demultiplexer()
        outputs = list(demultiplexer.outputs(frame for frame in frames))
        assert outputs == [Rows([b"x", b"y"]), Model({"number": 1})]
        assert counted == [{"a": 1}]
        assert list(demultiplexer.rows(frame for frame in frames)) == [[b"x", b"y"]]

    def test_frame_that_is_no_output_is_an_error(self):
        with pytest.raises(ProtocolError, match="STACK is not an output of a run"):
            list(Demultiplexer().outputs(frame for frame in [wire.control_frame(wire.STACK, {})]))

    def test_frames_are_closed_with_the_outputs(self):
        def frames():
            try:
                yield wire.records_frame(wire.EXAMPLES, [b"x"])
            finally:
                closed.append(True)

        closed = []
        rows = Demultiplexer().rows(frames())
        assert next(rows) == [b"x"]
        rows.close()
        assert closed == [True]


def test_state_of_an_earlier_version_is_read():
    stored = json.loads(StreamState(run="a", epoch=3).encode())
    stored["turn"] = stored.pop("epoch")
    assert StreamState.decode(json.dumps({**stored, "unknown": 1}).encode()) == StreamState(run="a", epoch=3)

"""Scripts that cannot answer, or never return: each wait for them ends, with an error that says where they are."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from beam_tfscript.runtime.transport.scratch import PREFIX
from tests.running import script
from tests.test_faults import is_gone, wait_until
from tests.without_tensorflow import blocked, ids, run_of


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr("beam_tfscript.feeds.run.ANSWER_S", 1.0)


@pytest.fixture
def frozen(tmp_path):
    """Make the transform with a script that freezes."""

    def make(entry, feed, how="", **more):
        params = {
            "how": how,
            "told": str(tmp_path / "told"),
            "marks": str(tmp_path / "marks"),
            **more.pop("params", {}),
        }
        return run_of(entry, feed, params=params, env=blocked(tmp_path), feed_timeout=1, **more)

    return make


def marks(tmp_path):
    told = tmp_path / "told"
    return told.read_text() if told.exists() else ""


def pids(tmp_path):
    return {int(line.split()[0]) for line in marks(tmp_path).splitlines()}


@pytest.mark.parametrize("feed", ["bundles", "stream"])
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("stopped", "it is stopped, as by SIGSTOP"),
        ("computing", "it computes, inside one call that holds Python's interpreter lock.*feeds.py.* in freeze"),
    ],
)
def test_process_that_cannot_answer_is_an_error_and_is_killed(in_memory, frozen, tmp_path, feed, how, expected):
    with pytest.raises(Exception, match=f"(?s)rows to read.*does not answer.*{expected}") as caught:
        in_memory.run(frozen("freezes", feed, how, max_attempts=1), ids(30))
    assert "feed_timeout=1 s" in str(caught.value) and "counts as dead" in str(caught.value)
    assert all(map(is_gone, pids(tmp_path)))


@pytest.mark.parametrize("feed", ["bundles", "stream"])
def test_rows_of_a_process_that_cannot_answer_go_to_another(in_memory, frozen, tmp_path, feed):
    rows = in_memory.run(frozen("freezes", feed, "stopped", params={"times": 1}), ids(30))
    assert {row["id"] for row in rows} == {row["id"] for row in ids(30)}
    assert in_memory.metrics["process_deaths"] == 1 and len(pids(tmp_path)) == 2


def test_batch_that_freezes_its_process_goes_to_the_dead_letters(in_memory, frozen):
    transform = frozen("freezes", "bundles", "stopped", max_attempts=1, params={"times": 1})
    outputs = in_memory.outputs(transform.with_exception_handling(), ids(30))
    assert len(outputs["good"]) == 22
    assert [output.row[0] for output in outputs["bad"]] == ids(8, start=8)


def test_stopped_process_is_an_error_where_a_run_may_be_silent_too(in_memory, frozen, tmp_path):
    begin = time.monotonic()
    with pytest.raises(Exception, match="has said nothing for 2 s.*it is stopped"):
        in_memory.run(frozen("freezes_with_a_file", "dataset", "stopped"), ids(3))
    assert time.monotonic() - begin < 60 and all(map(is_gone, pids(tmp_path)))


def test_run_that_computes_without_an_answer_is_left_alone(in_memory, tmp_path, caplog):
    source = textwrap.dedent("""
        def main(config):
            # One call of C that lets no other thread run, of some seconds; asked in steps to fit the machine.
            import time
            begin, n = time.time(), 10**7
            while time.time() - begin < 4:
                sum(range(n))
                n = int(n * max(1.0, 4 / max(time.time() - begin, 0.1)))
            config.write(id="done")
    """)
    (tmp_path / "computes.py").write_text(source)
    from beam_tfscript import RunTFScript

    transform = RunTFScript(str(tmp_path / "computes.py"), "id string", env=blocked(tmp_path), feed_timeout=0.5)
    assert in_memory.run(transform) == [{"id": "done"}]


@pytest.mark.parametrize("feed", ["bundles", "stream"])
def test_script_that_hangs_behind_its_loop_is_told(in_memory, frozen, tmp_path, feed, caplog):
    run = frozen("hangs_behind_its_loop", feed)
    expected = "the feed of the script has ended, and main has neither returned"
    if feed == "stream":
        with pytest.raises(Exception, match=expected) as caught:
            in_memory.run(run, ids(30))
        assert "in hangs_behind_its_loop" in str(caught.value)
    else:
        assert len(in_memory.run(run, ids(30))) == 30
        wait_until(lambda: "behind the loop" in marks(tmp_path), 15)
        wait_until(lambda: all(map(is_gone, pids(tmp_path))), 15)
        wait_until(lambda: "main has neither returned" in caplog.text, 15)
        assert "in hangs_behind_its_loop" in caplog.text


def test_script_may_work_behind_its_loop_for_as_long_as_it_may_be_silent(in_memory, tmp_path):
    params = {"told": str(tmp_path / "told"), "seconds": 7}
    run = run_of("works_behind_its_loop", "bundles", params=params, env=blocked(tmp_path), feed_timeout=30)
    assert len(in_memory.run(run, ids(30))) == 30
    wait_until(lambda: "saved" in marks(tmp_path), 15)


@pytest.mark.kills
class TestWorkerIsKilled:
    """SIGKILL to the worker: its script processes end, whatever state they are in, and its scratch directory goes."""

    PIPELINE = textwrap.dedent("""
        import multiprocessing, sys, threading, time
        import apache_beam as beam
        from beam_tfscript import RunTFScript

        script, entry, how, feed, told, blocked, forks = sys.argv[1:]
        rows = [{"id": str(i)} for i in range(100)]

        def fork_once(row, done=[]):
            # What another step of the pipeline may do: its children get a copy of every descriptor of the worker.
            if row["id"] == "50" and forks:
                multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,), daemon=True).start()
            return row

        with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
            scored = pipeline | beam.Create(rows) | RunTFScript(
                script, "id string, batch int, rows int, pid bigint, window string, attempt int",
                input_schema="id string", entry=entry, feed=feed,
                user_params={"told": told, "how": how, "marks": told + ".marks"}, env={"PYTHONPATH": blocked})
            scored | beam.Map(lambda row: fork_once(row._asdict()))
    """)

    @pytest.mark.parametrize(
        ("entry", "how", "feed", "forks"),
        [
            ("freezes", "stopped", "bundles", ""),
            ("freezes", "computing", "stream", ""),
            ("freezes_with_a_file", "stopped", "dataset", ""),
            ("waits_with_the_last_rows", "", "bundles", "forks"),
        ],
    )
    def test_nothing_outlives_it(self, tmp_path, scratch_parent, entry, how, feed, forks):
        told = tmp_path / "told"
        path = blocked(tmp_path)["PYTHONPATH"]
        pipeline = subprocess.Popen(
            [sys.executable, "-c", self.PIPELINE, script("feeds.py"), entry, how, feed, str(told), path, forks],
            env={**os.environ, "TMPDIR": str(scratch_parent)}, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until(lambda: told.exists() and "reading" in told.read_text(), 60)
            time.sleep(1)  # for the script to be where it freezes, or for the worker to fork
            found = pids(tmp_path)
            assert not any(map(is_gone, found))
            pipeline.kill()
            pipeline.wait(30)
            wait_until(lambda: all(map(is_gone, found)), 10)
            wait_until(lambda: not any(name.startswith(PREFIX) for name in os.listdir(scratch_parent)), 10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pipeline.pid, signal.SIGKILL)
            pipeline.wait()

"""Script processes that die in each feed: the output is what the feed guarantees, wherever they were.

That nothing is left (process, thread, file, descriptor) is asserted after every test, in conftest.py.
"""

from __future__ import annotations

import errno
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap

import apache_beam as beam
import psutil
import pyarrow as pa
import pytest

from beam_tfscript.runtime.transport.scratch import PREFIX
from beam_tfscript.worker.idle import IdleProcesses
from tests.running import Runner, script
from tests.test_faults import is_gone, wait_until
from tests.without_tensorflow import InBundles, blocked, ids, run_of

# Kills its process at one place on the way of frames: just before or after it sends one, or after it has received one.
# The first process that comes there dies, the others pass. The two ways are counted apart, as they do not wait for each
# other.
WALK = """
import os, signal, threading
from beam_tfscript.runtime.transport import wire

lock = threading.Lock()
steps = {"send": iter(range(1 << 30)), "receive": iter(range(1 << 30))}
send, receive = wire.send_frame, wire.receive_frame


def pass_by(way, where, frame):
    with lock:
        is_here = "{} {}".format(way, next(steps[way])) == os.environ["WALK_STEP"]
    if is_here:
        try:
            mark = os.open(os.environ["WALK_MARK"], os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return
        os.write(mark, (where + " " + frame.name).encode())
        os.kill(os.getpid(), signal.SIGKILL)


def send_frame(sock, frame, number):
    pass_by("send", "before", frame)
    send(sock, frame, number)
    pass_by("send", "after", frame)


def receive_frame(sock, number):
    frame = receive(sock, number)
    if frame is not None:
        pass_by("receive", "after", frame)
    return frame


wire.send_frame, wire.receive_frame = send_frame, receive_frame
"""
IDS = [row["id"] for row in ids(20)]


@pytest.fixture
def no_tensorflow(tmp_path):
    return blocked(tmp_path)


@pytest.fixture
def kill(tmp_path):
    """Parameters of a script that is to fail at a row."""

    def parameters(at, times, **more):
        return {"at": str(at), "times": times, "marks": str(tmp_path / "marks"), **more}

    return parameters


def names(rows):
    return [row["id"] for row in rows]


@pytest.mark.cold
@pytest.mark.kills
class TestWalk:
    """Ends the script's process between any two messages, one after the other."""

    @pytest.fixture
    def walk(self, tmp_path, monkeypatch):
        monkeypatch.setattr("beam_tfscript.worker.pool._REAPER_TICK_S", 0.1)
        monkeypatch.setattr("beam_tfscript.worker.pool.UNUSED_GRACE_S", 0.05)
        others = set(psutil.Process().children())  # processes that other tests share

        def kill_at(step, entry, feed, check, **arguments):
            mark = tmp_path / f"mark {step}"
            env = {**blocked(tmp_path, WALK), "WALK_STEP": step, "WALK_MARK": str(mark)}
            runner = Runner("in_memory", tmp_path)
            found = None
            try:
                found = names(runner.run(run_of(entry, feed, params={"n": 8}, env=env, **arguments), ids(20)))
            except Exception as error:
                if "SIGKILL" not in str(error):
                    raise
            wait_until(lambda: not set(psutil.Process().children()) - others, 10)
            where = mark.read_text() if mark.exists() else None
            check(found, runner.metrics, where)
            return where

        def walk_all(*run, **arguments):
            killed = set()
            for way in ("send", "receive"):
                at = (kill_at(f"{way} {number}", *run, **arguments) for number in itertools.count())
                killed.update(itertools.takewhile(lambda where: where is not None, at))
            return killed

        return walk_all

    def test_dataset_gives_each_row_once(self, walk):
        def check(found, metrics, where):
            assert sorted(found, key=int) == IDS

        killed = walk("echo_file", "dataset", check, max_attempts=2)
        assert killed >= {
            "before READY", "after READY", "after RUN", "before STARTED", "after STARTED", "before EXAMPLES",
            "after EXAMPLES", "before DONE", "after DONE",
        }  # fmt: skip

    def test_bundles_give_each_row_once(self, walk):
        def check(found, metrics, where):
            assert found == IDS

        killed = walk("echo", "bundles", check)
        assert killed >= {
            "before READY", "after READY", "after RUN", "before STARTED", "after STARTED", "before ACK", "after ACK",
            "after WINDOW", "after ROWS", "after END_BUNDLE", "before EXAMPLES", "after EXAMPLES", "after END_FEED",
            "after CLOSE",
        }  # fmt: skip

    def test_stream_with_replay_gives_each_row_at_least_once(self, walk):
        def check(found, metrics, where):
            assert set(found) == set(IDS)
            assert "rows_lost" not in metrics

        killed = walk("echo", "stream", check, replay=True)
        assert killed >= {
            "before READY", "after READY", "after RUN", "before STARTED", "after STARTED", "before ACK", "after ACK",
            "after ROWS", "before EXAMPLES", "after EXAMPLES", "after END_FEED", "before DONE", "after DONE",
        }  # fmt: skip

    def test_stream_without_replay_gives_each_row_once(self, walk):
        failed = set()

        def check(found, metrics, where):
            assert "rows_lost" not in metrics
            if found is None:
                failed.add(where)
            else:
                assert found == IDS

        walk("echo", "stream", check, replay=False)
        # What main does when all its rows are done cannot be repeated without them: that is an error.
        assert "before DONE" in failed and failed <= {"after ACK", "after END_FEED", "before DONE"}


class TestBundles:
    @pytest.mark.parametrize("at", [0, 7, 8, 100, 999])
    def test_rows_go_downstream_once_wherever_a_batch_kills_its_process(self, in_memory, no_tensorflow, kill, at):
        rows = in_memory.run(run_of("echo", "bundles", params=kill(at, 2), env=no_tensorflow), ids(1000))
        assert names(rows) == names(ids(1000))
        assert {row["attempt"] for row in rows if int(row["id"]) // 8 == at // 8} == {3}
        assert in_memory.metrics["process_deaths"] == in_memory.metrics["runs_failed"] == 2
        assert in_memory.metrics["runs"] == 3

    def test_batch_that_raises_is_tried_again(self, in_memory, no_tensorflow, kill):
        transform = run_of("echo", "bundles", params=kill(30, 2, how="raise"), env=no_tensorflow)
        assert names(in_memory.run(transform, ids(100))) == names(ids(100))
        assert in_memory.metrics["runs_failed"] == 2 and "process_deaths" not in in_memory.metrics

    @pytest.mark.parametrize("how", ["kill", "raise"])
    def test_script_metrics_of_a_batch_that_failed_count_once(self, in_memory, no_tensorflow, kill, how):
        transform = run_of("counts", "bundles", params=kill(30, 2, how=how), env=no_tensorflow)
        assert names(in_memory.run(transform, ids(100))) == names(ids(100))
        assert in_memory.metrics["seen"] == 100

    @pytest.mark.parametrize(
        ("how", "expected"),
        [
            ("kill", "SIGKILL, likely out of memory"),
            ("raise", 'the script raised ArithmeticError:.*File "feeds.py", line .* no more of this'),
        ],
    )
    def test_last_attempt_fails_the_bundle(self, in_memory, no_tensorflow, kill, how, expected):
        transform = run_of("echo", "bundles", params=kill(30, 99, how=how), env=no_tensorflow, max_attempts=2)
        with pytest.raises(Exception, match=f"(?s)feeds.py chief:0 bundles attempt 2.*{expected}"):
            in_memory.run(transform, ids(100))

    def test_attempts_are_counted_for_each_batch(self, in_memory, no_tensorflow, tmp_path):
        sitecustomize = textwrap.dedent("""
            import os, signal
            from beam_tfscript.runtime.reading import feed

            acknowledge = feed.Feed._acknowledge

            def acknowledge_and_die(self, wanted):
                acknowledge(self, wanted)
                if self.position:
                    os.kill(os.getpid(), signal.SIGKILL)

            feed.Feed._acknowledge = acknowledge_and_die
        """)
        transform = run_of("echo", "bundles", env=blocked(tmp_path, sitecustomize), max_attempts=2)
        rows = in_memory.run(transform, ids(40))
        assert names(rows) == names(ids(40))
        assert len({row["pid"] for row in rows}) == 5

    @pytest.mark.parametrize("how", ["kill", "raise"])
    def test_batch_that_always_fails_goes_to_the_dead_letters(self, in_memory, no_tensorflow, kill, how):
        transform = run_of("echo", "bundles", params=kill(50, 3, how=how), env=no_tensorflow)
        outputs = in_memory.outputs(transform.with_exception_handling(), ids(100))
        good, bad = outputs["good"], outputs["bad"]
        assert [int(output.row["id"]) for output in good] == [i for i in range(100) if i // 8 != 50 // 8]
        assert [output.row[0] for output in bad] == ids(8, start=48)
        assert {output.row[1][0].__name__ for output in bad} == {"ScriptDied" if how == "kill" else "ScriptRaised"}
        assert in_memory.metrics["rows_bad"] == 8

    def test_dead_letters_are_of_the_inputs_form(self, in_memory, no_tensorflow, kill):
        forms = {
            "row": lambda number: beam.Row(id=str(number)),
            "example": example,
            "batch": lambda number: pa.RecordBatch.from_pydict({"id": [str(number)]}),
        }
        for form, make in forms.items():
            kind = {"batch": pa.RecordBatch, "example": bytes, "row": beam.Row}[form]
            pathlib.Path(kill(0, 0)["marks"]).unlink(missing_ok=True)
            transform = run_of("echo", "bundles", params=kill(5, 3, n=2), env=no_tensorflow)
            outputs = in_memory.outputs(
                transform.with_exception_handling(), range(10),
                before=lambda numbers, make=make, kind=kind: numbers | beam.Map(make).with_output_types(kind),
            )  # fmt: skip
            assert len(outputs["good"]) == 8
            found = [output.row[0] for output in outputs["bad"]]
            if form == "batch":
                assert [batch.to_pydict() for batch in found] == [{"id": ["4", "5"]}]
            elif form == "row":
                assert [row.id for row in found] == ["4", "5"]
            else:
                assert found == [example(4), example(5)]

    def test_process_that_dies_between_bundles_costs_nothing(self, tmp_path, no_tensorflow, caplog):
        told = tmp_path / "told"

        def kill_before_the_second_bundle(row):
            if row["id"] == "10":
                pid = int(told.read_text().split()[0])
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: is_gone(pid), 10)
            return row

        transform = run_of("says_who_it_is", "bundles", params={"told": str(told)}, env=no_tensorflow, max_attempts=1)
        outputs = Runner("bundle_based", tmp_path).outputs(
            InBundles(transform, [ids(10), ids(10, start=10)], before=kill_before_the_second_bundle),
            options=["--streaming"],
        )  # fmt: skip
        assert sorted(names(output.row for output in outputs["good"]), key=int) == names(ids(20))
        assert "Exception at bundle" not in caplog.text

    def test_process_that_dies_when_all_is_done_costs_nothing(self, in_memory, tmp_path, caplog):
        sitecustomize = textwrap.dedent("""
            import os, signal
            from beam_tfscript.runtime.reading import feed

            acknowledge = feed.Feed._acknowledge

            def acknowledge_and_die(self, wanted):
                acknowledge(self, wanted)
                if self.position == 40:
                    os.kill(os.getpid(), signal.SIGKILL)

            feed.Feed._acknowledge = acknowledge_and_die
        """)
        transform = run_of("echo", "bundles", env=blocked(tmp_path, sitecustomize), max_attempts=1)
        outputs = in_memory.outputs(transform.with_exception_handling(), ids(40))
        assert names(output.row for output in outputs["good"]) == names(ids(40)) and not outputs["bad"]

    def test_failure_downstream_ends_the_process(self, in_memory, no_tensorflow, tmp_path):
        told = tmp_path / "told"

        class FailAtOnce(beam.PTransform):
            def expand(self, rows):
                params = {"told": str(told)}
                return rows | run_of("says_who_it_is", "bundles", params=params, env=no_tensorflow) | beam.Map(fail)

        with pytest.raises(Exception, match="downstream has had enough"):
            in_memory.run(FailAtOnce(), ids(9000))
        wait_until(lambda: is_gone(int(told.read_text().split()[0])), 10)
        assert "ended" not in told.read_text()

    @pytest.mark.cold  # its scratch directory is on that disk
    def test_full_disk_is_told_with_what_to_do(self, in_memory, no_tensorflow, tmp_path, monkeypatch):
        small = tmp_path / "small"
        small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        try:
            with monkeypatch.context() as patch, pytest.raises(Exception, match="cannot be spooled") as caught:
                patch.setattr(tempfile, "tempdir", str(small))
                rows = [{"id": "x" * (1 << 20)} for _ in range(8)]
                in_memory.run(run_of("in_two_ways", "bundles", env=no_tensorflow), rows)
            text = str(caught.value)
            assert os.strerror(errno.ENOSPC) in text and "TMPDIR" in text and "config.datasets()" in text
        finally:
            wait_until(lambda: not os.listdir(small), 10)
            subprocess.run(["umount", str(small)], check=True)


def fail(row):
    raise ValueError("downstream has had enough")


def example(number):
    """A serialized Example with an id, as TensorFlow makes it."""
    name = str(number).encode()
    value = b"\x0a" + bytes([len(name)]) + name
    feature = b"\x0a" + bytes([len(value)]) + value
    entry = b"\x0a\x02id\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    return b"\x0a" + bytes([len(features)]) + features


class TestStart:
    DIES_TWICE = textwrap.dedent("""
        import os, signal
        for number in range(2):
            try:
                os.close(os.open(os.environ["MARKS"] + str(number), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
    """)

    @pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
    def test_process_that_is_killed_while_it_comes_up_is_an_attempt(self, in_memory, tmp_path, feed):
        env = {**blocked(tmp_path, self.DIES_TWICE), "MARKS": str(tmp_path / "died")}
        entry = "echo_file" if feed == "dataset" else "echo"
        replay = True if feed == "stream" else None
        rows = in_memory.run(run_of(entry, feed, env=env, max_attempts=3, replay=replay), ids(20))
        assert sorted(names(rows), key=int) == IDS

    @pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
    def test_process_that_never_comes_up_is_told(self, in_memory, tmp_path, feed):
        env = blocked(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        with pytest.raises(Exception, match=r"SIGKILL.* before it was ready"):
            in_memory.run(run_of("echo", feed, env=env, max_attempts=2), ids(20))

    @pytest.mark.parametrize("feed", ["bundles", "stream"])
    def test_process_that_cannot_come_up_is_not_tried_again(self, in_memory, tmp_path, feed):
        ends = "import os; open(os.environ['MARKS'], 'a').write('x'); os._exit(3)"
        env = {**blocked(tmp_path, ends), "MARKS": str(tmp_path / "marks")}
        with pytest.raises(Exception, match="exit status 3 before it was ready"):
            in_memory.run(run_of("echo", feed, env=env), ids(20))
        assert len((tmp_path / "marks").read_text()) <= 2  # the one that was started early, too


class TestIdleProcess:
    """A process that ends after one run has given it back, and before another run begins on it."""

    @pytest.fixture
    def killed(self, monkeypatch):
        """Ids of processes that are killed as they are leased: the first one that a run had before."""
        pids = []
        remove = IdleProcesses.remove

        def remove_and_kill(idle, process):
            remove(idle, process)
            if process.runs and not pids:
                pids.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)

        monkeypatch.setattr(IdleProcesses, "remove", remove_and_kill)
        return pids

    @pytest.mark.parametrize("feed", ["dataset", "stream"])
    def test_death_as_the_next_run_begins_costs_no_attempt(self, in_memory, no_tensorflow, killed, caplog, feed):
        entry = "echo_file" if feed == "dataset" else "echo"
        transform = run_of(entry, feed, env=no_tensorflow, num_workers=2, max_processes=1, max_attempts=1)
        assert sorted(names(in_memory.run(transform, ids(20))), key=int) == IDS
        self.check(in_memory.metrics, killed, caplog)
        assert in_memory.metrics["runs"] == 2
        if feed == "dataset":
            assert in_memory.metrics["run_ms"].count == 2

    def test_death_as_bundles_begin_costs_no_attempt(self, in_memory, no_tensorflow, killed, caplog):
        class Both(beam.PTransform):
            def expand(self, rows):
                # Two attempts: its rows come when its run has ended, and its process is idle.
                first = rows | "first" >> run_of("echo_file", "dataset", env=no_tensorflow, max_attempts=2)
                rows = first | beam.Map(lambda row: {"id": row.id})
                return rows | "second" >> run_of("echo", "bundles", env=no_tensorflow, max_attempts=1)

        assert sorted(names(in_memory.run(Both(), ids(20))), key=int) == IDS
        self.check(in_memory.metrics, killed, caplog)

    def check(self, metrics, killed, caplog):
        assert len(killed) == 1 and f"pid={killed[0]}: ended with -9" in caplog.text
        assert "another one takes the run" in caplog.text
        assert "runs_failed" not in metrics and "process_deaths" not in metrics


class TestPipelineDies:
    PIPELINE = textwrap.dedent("""
        import sys
        import apache_beam as beam
        from beam_tfscript import RunTFScript

        script, feed, told, blocked = sys.argv[1:]
        with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
            rows = pipeline | beam.Create([{"id": str(i)} for i in range(100)])
            rows | RunTFScript(script, "id string", input_schema="id string", entry="stays_alive", feed=feed,
                               user_params={"told": told}, env={"PYTHONPATH": blocked})
    """)

    @pytest.mark.parametrize("feed", ["bundles", "stream"])
    def test_script_process_ends_with_the_pipelines(self, tmp_path, scratch_parent, no_tensorflow, feed):
        told = tmp_path / "told"
        arguments = [script("feeds.py"), feed, str(told), no_tensorflow["PYTHONPATH"]]
        pipeline = subprocess.Popen(
            [sys.executable, "-c", self.PIPELINE, *arguments],
            env={**os.environ, "TMPDIR": str(scratch_parent)}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: told.exists() and told.read_text().endswith("\n"), 60)
            pid = int(told.read_text().split()[0])
            assert not is_gone(pid)
            pipeline.kill()
            pipeline.wait(30)
        finally:
            pipeline.kill()
            pipeline.wait()
        wait_until(lambda: is_gone(pid), 10)
        wait_until(lambda: not any(name.startswith(PREFIX) for name in os.listdir(scratch_parent)), 10)

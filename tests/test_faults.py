"""Real faults: each one ends in bounded time, with the right rows or one clear error.

That nothing is left (process, thread, file, descriptor) is asserted after every test, in conftest.py.
"""

from __future__ import annotations

import errno
import logging
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
import traceback

import apache_beam as beam
import psutil
import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.errors import ArgumentError, SchemaError, ScriptLoadError
from beam_tfscript.runtime.transport.scratch import PREFIX
from tests.running import SCRIPTS_PYTHON, script
from tests.without_tensorflow import BLOCKED

IDS = [{"id": str(i)} for i in range(95)]


def run_entry(runner, entry, rows=IDS, *, output_schema="id string", **arguments):
    arguments.setdefault("input_schema", "id string")
    return runner.run(RunTFScript(script("faults.py"), output_schema, entry=entry, **arguments), rows)


def error_of(runner, entry, *args, **arguments):
    with pytest.raises(Exception) as caught:
        run_entry(runner, entry, *args, **arguments)
    text = str(caught.value)
    assert "check the logs" not in text
    return text


class TestScriptFails:
    def test_sys_exit_is_told_with_its_status_and_place(self, in_memory):
        text = error_of(in_memory, "exits_with_3")
        assert "sys.exit(3)" in text and "in exits_with_3" in text

    def test_sys_exit_0_is_a_return(self, in_memory):
        assert len(run_entry(in_memory, "exits_with_0")) == 95

    def test_os_exit_is_told_with_its_status(self, in_memory):
        assert "ended with exit status 7" in error_of(in_memory, "ends_at_once")

    @pytest.mark.parametrize("entry", ["kill_before_reading", "kill_after_last_write"])
    def test_kill_is_told_by_signal_name(self, in_memory, entry):
        text = error_of(in_memory, entry)
        assert "SIGKILL" in text and "likely out of memory" in text
        if entry == "kill_before_reading":
            assert "about to go" in text

    def test_segmentation_fault_is_told_with_the_line(self, in_memory):
        text = error_of(in_memory, "segfault")
        assert "SIGSEGV" in text and "faults.py" in text and "in segfault" in text

    def test_out_of_memory_kill_is_told_as_such(self, in_memory):
        with memory_cgroup(256 << 20) as cgroup:
            text = error_of(in_memory, "exhaust_memory", user_params={"cgroup": cgroup})
        assert "SIGKILL, out of memory" in text

    def test_metrics_count_a_death(self, in_memory):
        assert len(run_entry(in_memory, "kill_first_two_attempts", max_attempts=3)) == 95
        assert in_memory.metrics["process_deaths"] == in_memory.metrics["runs_failed"] == 2
        assert in_memory.metrics["runs"] == in_memory.metrics["process_starts"] == 3


class TestAttempts:
    def test_script_metrics_of_failed_attempts_do_not_count(self, in_memory):
        run_entry(in_memory, "kill_first_two_attempts", max_attempts=3)
        assert in_memory.metrics["tries"] == 1

    def test_last_attempt_fails_the_bundle(self, in_memory):
        text = error_of(in_memory, "kill_first_two_attempts", max_attempts=2)
        assert "attempt 2" in text and "SIGKILL" in text


class TestScriptCannotBeLoaded:
    def test_syntax_error_is_told_while_the_pipeline_is_built(self):
        with pytest.raises(ScriptLoadError, match=r"broken_syntax.py, line 5"):
            RunTFScript(script("broken_syntax.py"), "id string")

    def test_missing_main_is_told_while_the_pipeline_is_built(self):
        with pytest.raises(ScriptLoadError, match=r"defines no 'main'.*score"):
            RunTFScript(script("no_main.py"), "id string")

    def test_main_that_is_no_function_is_told_by_the_run(self, in_memory):
        with pytest.raises(Exception, match=r"hidden_main.py has no function 'main'; it defines other, yields"):
            in_memory.run(RunTFScript(script("hidden_main.py"), "id string", input_schema="id string"), IDS)

    def test_generator_is_told_that_it_would_do_nothing(self, in_memory):
        transform = RunTFScript(script("hidden_main.py"), "id string", input_schema="id string", entry="yields")
        with pytest.raises(Exception, match="yields in hidden_main.py is a generator"):
            in_memory.run(transform, IDS)

    def test_failing_import_is_told_with_the_interpreter(self, in_memory):
        with pytest.raises(Exception) as caught:
            in_memory.run(RunTFScript(script("broken_import.py"), "id string", input_schema="id string"), IDS)
        text = str(caught.value)
        assert "No module named 'no_such_module_anywhere'" in text and 'File "broken_import.py", line' in text
        assert SCRIPTS_PYTHON in text and "user_files" in text

    def test_syntax_error_in_a_user_file_is_told_by_the_run(self, in_memory, tmp_path):
        (tmp_path / "main_script.py").write_text("import broken_syntax\n\n\ndef main(config):\n    pass\n")
        transform = RunTFScript(
            str(tmp_path / "main_script.py"), None, input_schema="id string", user_files=[script("broken_syntax.py")]
        )
        with pytest.raises(Exception, match=r"(?s)broken_syntax.py.*SyntaxError"):
            in_memory.run(transform, IDS)


class TestFeed:
    @pytest.mark.parametrize(("entry", "count"), [("never_reads", 1), ("returns_after_ten", 10)])
    def test_script_need_not_read_all(self, runner, entry, count):
        assert len(run_entry(runner, entry)) == count

    def test_slow_reader_gets_all_rows(self, in_memory):
        assert len(run_entry(in_memory, "slow_reader")) == 95

    def test_shard_of_one_row(self, in_memory):
        assert run_entry(in_memory, "slow_reader", [{"id": "only"}], num_workers=3) == [{"id": "only"}]

    def test_printing_100_mb_loses_no_line(self, in_memory):
        counter = LineCounter()
        logger = logging.getLogger("beam_tfscript.script")
        logger.addHandler(counter)
        logger.propagate = False  # counted, not kept
        try:
            assert len(run_entry(in_memory, "prints_much")) == 95
        finally:
            logger.propagate = True
            logger.removeHandler(counter)
        assert counter.lines == 100_000

    @pytest.mark.tensorflow
    def test_64_mib_record_goes_both_ways(self, in_memory):
        # Made in the pipeline: what is given to Create is compressed into the job graph.
        transform = RunTFScript(script("echo.py"), "id varbinary", input_schema="id varbinary", entry="echo_file")
        rows = in_memory.run(
            transform, [4, 64 << 20, 5], before=lambda sizes: sizes | beam.Map(lambda size: {"id": os.urandom(size)})
        )
        assert sorted(len(row["id"]) for row in rows) == [4, 5, 64 << 20]

    def test_writer_without_end_stops_when_the_bundle_fails(self, in_memory):
        class FailAfterSome(beam.DoFn):
            def setup(self):
                self.seen = 0

            def process(self, row):
                self.seen += 1
                if self.seen > 5000:
                    raise ValueError("downstream has had enough")
                yield row

        class WriteAndFail(beam.PTransform):
            def expand(self, rows):
                endless = RunTFScript(
                    script("faults.py"), "id string", input_schema="id string", entry="writes_without_end"
                )
                return rows | endless | beam.ParDo(FailAfterSome())

        begin = time.monotonic()
        with pytest.raises(Exception, match="downstream has had enough"):
            in_memory.run(WriteAndFail(), IDS)
        assert time.monotonic() - begin < 120

    def test_silence_is_looked_into(self, in_memory, caplog):
        assert run_entry(in_memory, "silent", feed_timeout=1) == [{"id": "done"}]
        notices = [
            record.getMessage() for record in caplog.records if "has said nothing for 1 s" in record.getMessage()
        ]
        assert notices and "in _sleep_here" in notices[0] and "time.sleep(seconds)" in notices[0]

    @pytest.mark.cold
    def test_slow_start_is_an_error_that_names_the_bound(self, in_memory):
        text = error_of(in_memory, "never_reads", start_timeout=0.05)
        assert "was not up after start_timeout=0.05 s" in text and SCRIPTS_PYTHON in text

    @pytest.mark.parametrize("entry", ["leaves_a_thread", "leaves_a_child"])
    def test_process_with_leftovers_is_not_reused(self, in_memory, caplog, entry):
        rows = run_entry(in_memory, entry, num_workers=2)
        assert len(rows) == 2
        assert in_memory.metrics["process_starts"] == 2
        assert "left thread" in caplog.text or "left 1 child process" in caplog.text
        if entry == "leaves_a_child":
            assert all(is_gone(int(row["id"])) for row in rows)


class TestOutput:
    SCHEMA = "id string not null, score float"

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ("missing_column", "score"),
            ("wrong_kind", "score"),
            ("two_values", "score"),
            ("wrong_column_name", "scor"),
        ],
    )
    def test_example_that_does_not_fit_is_told_with_its_column(self, in_memory, entry, expected):
        assert expected in error_of(in_memory, entry, output_schema=self.SCHEMA)

    def test_mismatch_at_the_call_points_at_the_scripts_line(self, in_memory):
        text = error_of(in_memory, "wrong_column_name", output_schema=self.SCHEMA)
        assert 'config.write_batch(id=["a"], scor=[1.0])' in text

    def test_bad_outputs_go_to_the_dead_letters(self, runner):
        transform = RunTFScript(script("faults.py"), self.SCHEMA, input_schema="id string", entry="good_and_garbage")
        outputs = runner.outputs(transform.with_exception_handling(), IDS)
        assert sorted(output.row["id"] for output in outputs["good"]) == ["also good", "good"]
        (bad,) = outputs["bad"]
        element, (kind, text, lines) = bad.row
        assert element == b"no Example at all"
        assert kind.__name__ == "OutputError" and "OutputError" in text and lines[-1].startswith("beam_tfscript")

    def test_writing_without_an_output_schema_is_an_error(self, in_memory):
        text = error_of(in_memory, "never_reads", output_schema=None)
        assert "output_schema=None" in text and 'config.write(id="one")' in text


class TestInput:
    def test_rows_that_do_not_fit_fail_with_their_column(self, runner):
        text = error_of(runner, "slow_reader", [{"id": "a"}, {"id": 7}])
        assert "id" in text and "7" in text

    def test_too_many_bad_rows_fail_the_pipeline(self, in_memory):
        rows = [{"id": str(i)} if i % 2 else {"id": i} for i in range(20)]
        transform = RunTFScript(script("faults.py"), "id string", input_schema="id string", entry="slow_reader")
        with pytest.raises(Exception, match="10 of 20 rows are bad"):
            in_memory.run(transform.with_exception_handling(threshold=0.2), rows)

    def test_exceptions_that_are_not_asked_for_fail(self, in_memory):
        transform = RunTFScript(script("faults.py"), "id string", input_schema="id string", entry="slow_reader")
        with pytest.raises(Exception, match="Row #0, column 'id'"):
            in_memory.run(transform.with_exception_handling(exc_class=KeyError), [{"id": 1}])


class TestConstruction:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"main_script_file": "/no/such.py"}, "there is no file"),
            ({"main_script_file": __file__.replace(".py", "")}, "there is no file"),
            ({"main_script_file": "ftp://host/a.py"}, "no file system is known"),
            ({"user_files": ["/no/such.txt"]}, "there is no file"),
            ({"user_files": "vocab.txt"}, "must be a list"),
            ({"user_params": {"a": object()}}, "must be JSON"),
            ({"user_params": {1: 2}}, "keys must be strings"),
            ({"user_params": "{"}, "must be JSON"),
            ({"num_workers": 0}, "at least 1, got 0"),
            ({"num_workers": 1.5}, "got 1.5"),
            ({"intra_op_parallelism": -1}, "at least 0, got -1"),
            ({"max_attempts": 0}, "at least 1, got 0"),
            ({"start_timeout": 0}, "greater than 0, got 0"),
            ({"feed_timeout": float("nan")}, "got nan"),
            ({"feed": "rows"}, "feed must be one of 'dataset', 'bundles', 'stream' or None, got 'rows'"),
            ({"entry": "a b"}, "name of a function"),
            ({"selected_cols": ["a", "a"]}, "each once"),
            ({"env": {"A": 1}}, "got a value of type int for 'A'"),
            ({"env": {"A=B": "c"}}, "got 'A=…'"),
            ({"env": {"": "c"}}, "got ''"),
            ({"env": "A=B"}, "names of variables to strings, got str"),
            ({"user_params": {"a": [{"b": b"c"}]}}, r"JSON: user_params\['a'\]\[0\]\['b'\] is of type bytes"),
            ({"user_files": ["a", b"b"]}, "got bytes at index 1"),
            ({"script_args": None}, "must be a list of strings, got None"),
            ({"output_schema": "id strin"}, "strin"),
            ({"input_schema": "id"}, "type"),
        ],
    )
    def test_bad_argument_is_told_with_its_value(self, arguments, expected):
        arguments = {"main_script_file": script("echo.py"), "output_schema": "id string", **arguments}
        with pytest.raises(ArgumentError, match=expected):
            RunTFScript(**arguments)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"env": {"T": b"swordfish"}},
            {"env": {"T": ["swordfish"]}},
            {"env": {"T": "sword\0swordfish"}},
            {"env": {"T": "swordfish\ud800"}},
            {"env": {"T=swordfish": ""}},
            {"env": {b"swordfish": "x"}},
            {"env": "T=swordfish"},
            {"env": ["swordfish"]},
            {"user_params": {"token": b"swordfish"}},
            {"user_params": {"token": "swordfish", "other": object()}},
            {"user_params": '{"token": "swordfish"'},
            {"user_params": '["swordfish"]', "compat_params": "strings"},
            {"script_args": "--token=swordfish"},
            {"script_args": ["--token=swordfish", 3]},
            {"script_args": [b"swordfish"]},
            {"user_files": "https://me:swordfish@127.0.0.1:9/a.txt"},
            {"user_files": ["https://me:swordfish@127.0.0.1:9/a.txt", 3]},
            {"main_script_file": b"https://me:swordfish@127.0.0.1:9/a.py"},
            {"main_script_file": "https://me:swordfish@127.0.0.1:9/.."},
            {"python_env": b"https://me:swordfish@127.0.0.1:9/a.zip"},
            {"requirements": ["-r https://me:swordfish@127.0.0.1:9/more.txt"]},
        ],
        ids=lambda arguments: next(iter(arguments)),
    )
    def test_no_error_shows_a_value_that_may_be_secret(self, arguments):
        argument = next(iter(arguments))
        arguments = {"main_script_file": script("echo.py"), "output_schema": "id string", **arguments}
        with pytest.raises(ArgumentError) as caught:
            RunTFScript(**arguments)
        assert "swordfish" not in "".join(traceback.format_exception(caught.value))
        assert argument in str(caught.value)

    def test_no_text_of_the_arguments_shows_the_environment(self):
        transform = RunTFScript(script("echo.py"), "id string", env={"TOKEN": "swordfish"})
        assert "swordfish" not in repr(transform) + repr(transform._options) + str(transform.display_data())

    def test_unknown_argument_is_refused(self):
        with pytest.raises(TypeError, match="num_threads"):
            RunTFScript(script("echo.py"), "id string", num_threads=4)

    def test_two_files_of_one_name_are_refused(self, tmp_path):
        (tmp_path / "echo.py").write_text("")
        with pytest.raises(ArgumentError, match="same name"):
            RunTFScript(script("echo.py"), "id string", user_files=[str(tmp_path / "echo.py")])

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({}, "three ways"),
            ({"input_schema": "id string", "selected_cols": ["ID2"]}, "ID2"),
            ({"input_schema": "id string", "shard_by": "user"}, "user"),
        ],
    )
    def test_unusable_input_is_told_while_the_pipeline_is_built(self, arguments, expected):
        pipeline = beam.Pipeline()
        with pytest.raises((ArgumentError, SchemaError), match=expected):
            _ = pipeline | beam.Create([{"id": "a"}]) | RunTFScript(script("echo.py"), "id string", **arguments)

    def test_timeout_of_exception_handling_is_refused(self):
        with pytest.raises(ArgumentError, match="timeout"):
            RunTFScript(script("echo.py"), "id string").with_exception_handling(timeout=3)

    @pytest.mark.parametrize("entry", ["../evil.py", "/tmp/evil.py"])
    def test_archive_that_reaches_outside_is_refused(self, in_memory, tmp_path, entry):
        import zipfile

        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            archive.writestr(entry, "x = 1\n")
        transform = RunTFScript(
            script("faults.py"), "id string", input_schema="id string", entry="never_reads",
            user_files=[str(tmp_path / "bad.zip")],
        )  # fmt: skip
        with pytest.raises(Exception, match="would be written outside"):
            in_memory.run(transform, IDS)
        assert not list(pathlib.Path(tmp_path).rglob("evil.py"))


class TestPipelineDies:
    PIPELINE = textwrap.dedent("""
        import signal, sys
        import apache_beam as beam
        from beam_tfscript import RunTFScript

        # A shell that started the tests in the background has Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        script, started, blocked = sys.argv[1:]
        with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
            rows = pipeline | beam.Create([{"id": "a"}])
            rows | RunTFScript(script, "id string", input_schema="id string", entry="stays_alive",
                               user_params={"started": started}, env={"PYTHONPATH": blocked})
    """)

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
    def test_script_process_ends_with_the_pipelines(self, tmp_path, scratch_parent, how):
        started = tmp_path / "started"
        pipeline = subprocess.Popen(
            [sys.executable, "-c", self.PIPELINE, script("faults.py"), str(started), BLOCKED],
            env={**os.environ, "TMPDIR": str(scratch_parent)}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: started.exists() and started.read_text(), 60)
            pid = int(started.read_text())
            assert not is_gone(pid)
            pipeline.send_signal(how)
            pipeline.wait(30)
        finally:
            pipeline.kill()
            pipeline.wait()
        wait_until(lambda: is_gone(pid), 10)
        wait_until(lambda: not any(name.startswith(PREFIX) for name in os.listdir(scratch_parent)), 10)

    def test_next_harness_removes_what_a_dead_one_left(self, scratch_parent):
        from beam_tfscript.worker.scratch import ScratchDirectory

        # Its guardian would remove the directory, so it is killed first.
        code = (
            "import os, signal; from beam_tfscript.worker.scratch import ScratchDirectory; own = ScratchDirectory();"
            "guardian = own.guardian._process; guardian.kill(); guardian.wait(); os.kill(os.getpid(), signal.SIGKILL)"
        )
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(scratch_parent)})
        (left,) = os.listdir(scratch_parent)
        fresh = ScratchDirectory()
        try:
            assert os.listdir(scratch_parent) == [os.path.basename(fresh.path)] != [left]
        finally:
            fresh.remove()


@pytest.mark.cold  # its scratch directory is on that disk
def test_full_disk_is_told_with_what_to_do(in_memory, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    import tempfile

    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(tempfile, "tempdir", str(small))
            rows = [{"id": "x" * (1 << 20)} for _ in range(8)]
            text = error_of(in_memory, "never_reads", rows)
        assert os.strerror(errno.ENOSPC) in text and "TMPDIR" in text
    finally:
        # Lazily: an idle process may have its directory there for some moments more.
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def wait_until(condition, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def is_gone(pid):
    """Return True if the process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class LineCounter:
    """A log handler that counts the long lines."""

    level = 0
    lines = 0

    def handle(self, record):
        self.lines += len(record.args[1]) == 999 if record.args else 0


class memory_cgroup:
    """A control group with a memory limit, for as long as the block runs; skips the test where none can be made."""

    def __init__(self, limit_bytes):
        self._limit_bytes = limit_bytes

    def __enter__(self):
        for root, limit in (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ):
            self.path = os.path.join(root, f"beam_tfscript-test-{os.getpid()}")
            try:
                os.mkdir(self.path)
                pathlib.Path(self.path, limit).write_text(str(self._limit_bytes))
                return self.path
            except OSError:
                if os.path.isdir(self.path):
                    os.rmdir(self.path)
        pytest.skip("needs the right to make a memory control group")

    def __exit__(self, *_):
        wait_until(lambda: not pathlib.Path(self.path, "cgroup.procs").read_text(), 10)
        os.rmdir(self.path)

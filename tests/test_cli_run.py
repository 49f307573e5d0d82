"""`beam-tfscript run`: whole files through real pipelines, and the progress line."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import apache_beam as beam
import pyarrow.parquet
import pytest

from beam_tfscript.cli import progress
from beam_tfscript.cli.main import main
from beam_tfscript.cli.unknown_flags import check_beam_flags
from beam_tfscript.data import tfrecord
from beam_tfscript.data.examples import ExampleDecoder
from beam_tfscript.data.schema import Schema
from tests.cli_files import SCHEMA, make_rows, write_rows
from tests.test_cli_check import ECHO
from tests.without_tensorflow import blocked

IN_MEMORY = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"


@pytest.fixture
def flags(tmp_path):
    """Flags of a command that runs a script without TensorFlow on the in-memory engine."""
    (tmp_path / "echo.py").write_text(ECHO)
    variables = [f"--env={name}={value}" for name, value in blocked(tmp_path).items()]
    return ["run", str(tmp_path / "echo.py"), IN_MEMORY, *variables, f"--output={tmp_path / 'out' / 'rows'}"]


def read_rows(path):
    """Return the rows of a file that was written."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".tfrecord":
        return ExampleDecoder(Schema.parse(SCHEMA)).decode(tfrecord.read(str(path))).to_pylist()
    if path.suffix == ".csv":
        header, *lines = path.read_text().splitlines()
        assert header == '"id","x"'
        return [{"id": line.split(",")[0].strip('"'), "x": float(line.split(",")[1])} for line in lines]
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        ("rows.csv.gz", "jsonl"),
        ("rows.jsonl", "csv"),
        ("rows.parquet", "tfrecord"),
        ("rows.tfrecord", "parquet"),
        ("rows.csv", None),
    ],
)
def test_rows_of_files_go_through_to_files(flags, tmp_path, capsys, name, file_format):
    write_rows(tmp_path / f"a-{name}", make_rows(20))
    write_rows(tmp_path / f"b-{name}", make_rows(30)[20:])
    chosen = [] if file_format is None else [f"--format={file_format}"]
    schema = ["--input-schema", SCHEMA, "--output-schema", SCHEMA]
    status = main([*flags, "--input", str(tmp_path / f"?-{name}"), *schema, *chosen])
    out, err = capsys.readouterr()
    assert status == 0, err
    (written,) = (tmp_path / "out").iterdir()
    assert written.suffix == f".{file_format or 'csv'}"
    assert sorted(read_rows(written), key=str) == sorted(make_rows(30), key=str)
    assert "30 rows read, 30 written in " in out
    # No terminal, no progress.
    assert "\r" not in out


def test_columns_are_guessed_from_the_first_file(flags, tmp_path, capsys):
    data = write_rows(tmp_path / "rows.parquet")
    assert main([*flags, "--input", data, "--output-schema", SCHEMA, "--format=jsonl"]) == 0
    assert f"guessed from {data}" in capsys.readouterr().out


def test_script_that_fails_is_explained(flags, tmp_path, capsys):
    (tmp_path / "echo.py").write_text("def main(config):\n    {}['absent']\n")
    data = write_rows(tmp_path / "rows.csv")
    assert main([*flags, "--input", data, "--output-schema", SCHEMA]) == 1
    err = capsys.readouterr().err
    summary = "echo.py, line 2: KeyError: 'absent'"
    assert f"\nScriptRaised: {summary}\necho.py chief:0 shard 0/1 attempt 1: the script raised KeyError:\n" in err
    assert err.splitlines()[-3].startswith(summary)
    assert "What to do: Correct the script" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        (["--output-schema", "x array<float>"], "CSV has no arrays"),
        ([], "--output and --output-schema go together"),
        (["--train"], "--model-dir"),
        (["--output-schema", SCHEMA, "--model-dir=/models"], "--train"),
        (["--train", "--model-dir=/models", "--output-schema", SCHEMA], "--output-schema"),
        (["--output-schema", SCHEMA, "--feed=bundles", "--num-workers=2"], "num_workers"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, tmp_path, capsys, more, shown):
    assert main([*flags, "--input", write_rows(tmp_path / "rows.csv"), *more]) == 2
    assert shown in capsys.readouterr().err


def test_pattern_without_a_directory_is_of_this_one(flags, tmp_path, capsys, monkeypatch):
    write_rows(tmp_path / "a-rows.csv")
    monkeypatch.chdir(tmp_path)
    assert main([*flags, "--input", "?-rows.csv", "--output-schema", SCHEMA]) == 0
    assert "30 rows read, 30 written in " in capsys.readouterr().out


def test_unknown_runner_is_refused(flags, tmp_path, capsys):
    data = write_rows(tmp_path / "rows.csv")
    assert main([*flags, "--input", data, "--output-schema", SCHEMA, "--runner=Flonk"]) == 2
    assert "ArgumentError: Beam refuses its flags: Unexpected pipeline runner: Flonk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        (["--num-wrkers", "2"], "a flag --num-wrkers. Is it --num-workers or --num_workers"),
        (["--num-wrkers=2"], "a flag --num-wrkers. Is it --num-workers or --num_workers"),
        (["--otput-schema=x float"], "a flag --otput-schema. Is it --output-schema"),
        (["--flink_mastr=here:8081"], "a flag --flink_mastr. Is it --flink_master?"),
        (["--checkpointing_interval=1000"], "a flag --checkpointing_interval."),
        (["more.py"], "takes one argument, the script, but got 'more.py' too"),
        # An unknown flag that is nearly one of this command's own is never passed to a job server.
        (["--runner=FlinkRunner", "--num-wrkers=2"], "a flag --num-wrkers. Is it --num-workers or --num_workers"),
        (["--runner=PortableRunner", "--job_endpoint=localhost:1", "--max-atempts=2"], "Is it --max-attempts?"),
    ],
)
def test_unknown_flag_is_refused_with_the_nearest_flags(flags, tmp_path, capsys, more, shown):
    data = write_rows(tmp_path / "rows.csv")
    assert main([*flags, "--input", data, "--output-schema", SCHEMA, *more]) == 2
    assert shown in capsys.readouterr().err


@pytest.mark.parametrize(
    "beams",
    [
        ["--runner=FlinkRunner", "--flink_master=here:8081", "--parallelism=2", "--environment_type=LOOPBACK"],
        [
            "--runner=DataflowRunner",
            "--project=p",
            "--region",
            "r",
            "--num_workers=3",
            "--experiments=a",
            "--streaming",
        ],
        ["--runner=DirectRunner", "--direct_num_workers", "2", "--direct_running_mode=in_memory", "--no_auth"],
        ["--runner=PortableRunner", "--job_endpoint=localhost:8099", "--environment_config", "a:1"],
    ],
)
def test_flags_of_beam_pass_without_a_word(beams, capsys):
    check_beam_flags(beams, ["--num-workers"])
    assert capsys.readouterr() == ("", "")


def test_flags_that_a_job_server_may_know_pass_with_a_note(capsys):
    beams = ["--runner=FlinkRunner", "--checkpointing_interval", "1000", "--flink_mastr=here", "--min_pause=-1"]
    check_beam_flags(beams, ["--num-workers", "--output"])
    notes = capsys.readouterr().err.splitlines()
    assert [note.split()[5] for note in notes] == ["--checkpointing_interval;", "--flink_mastr;", "--min_pause;"]
    assert notes[1].endswith("passed to the job server. Is it --flink_master?")


def test_versions_are_shown_without_importing_tensorflow():
    code = (
        "import sys\nfrom beam_tfscript.cli.main import main\ntry:\n    main(['--version'])\n"
        "finally:\n    print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    package, python, engine, tensorflow, loaded = done.stdout.splitlines()
    assert package.startswith("beam-tfscript ") and python.startswith(f"Python {sys.version.split()[0]} (")
    assert engine == f"apache-beam {beam.__version__}" and re.match(r"(tensorflow|tf-nightly)\S* \d", tensorflow)
    assert loaded == "False"


def test_interrupted_job_says_so_and_leaves_no_process(flags, tmp_path):
    data = write_rows(tmp_path / "rows.csv")
    script = "import os, time\n" + ECHO.replace(
        "def main(config):", f"def main(config):\n    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)",
    )  # fmt: skip
    (tmp_path / "echo.py").write_text(script)
    command = [sys.executable, "-m", "beam_tfscript", *flags, "--input", data, "--output-schema", SCHEMA]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # A shell that starts the tests in the background makes them ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as started:  # fmt: skip
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        started.send_signal(signal.SIGINT)
        err = started.communicate(timeout=60)[1]
    assert (started.returncode, err.splitlines()[-1]) == (130, "interrupted")
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text()}")


@pytest.fixture
def drawn(flags, tmp_path):
    """Run the command with a script on a terminal; return the progress lines drawn there."""

    def run(script, *more):
        write_rows(tmp_path / "rows.csv")
        (tmp_path / "echo.py").write_text(script)
        terminal, ours = pty.openpty()
        command = [sys.executable, "-m", "beam_tfscript", *flags, "--input", str(tmp_path / "rows.csv"), *more]
        started = subprocess.Popen(command, stdout=ours, stderr=subprocess.PIPE)
        os.close(ours)
        shown = b""
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:
            pass  # no process has the terminal open any more
        finally:
            os.close(terminal)
        err = started.communicate(timeout=60)[1].decode()
        assert started.returncode == 0, err
        return shown.decode().split("\r\x1b[2K")[1:]

    return run


def test_terminal_shows_rows_rate_processes_and_memory(drawn):
    slow = "import time\n" + ECHO.replace("def main(config):", "def main(config):\n    time.sleep(2.5)")
    lines = drawn(slow, "--output-schema", SCHEMA)
    assert any(line.startswith("30 rows read, 0 written, ") and " 1 process, " in line for line in lines), lines
    assert lines[-1].startswith("30 rows read, 30 written, ") and "MiB" in lines[-1]


@pytest.mark.parametrize("file_format", ["csv", "tfrecord"])
def test_rate_is_of_the_rows_that_are_written(drawn, file_format):
    """The last row is read before the first is written, so the rate of reading would be 0."""
    write = 'config.output_writer.write(records.read(struct.unpack("<Q", head[:8])[0]))'
    slow = ECHO.replace(write, write + "\n            config.output_writer.flush()\n            time.sleep(0.15)")
    lines = drawn("import time\n" + slow, "--output-schema", SCHEMA, "--format", file_format)
    rates = {}
    for written, rate in re.findall(r"30 rows read, (\d+) written, (\d+)/s", "\n".join(lines)):
        rates.setdefault(int(written), int(rate))  # after a second in which a busy machine wrote nothing, it is 0
    under_way = {written: rate for written, rate in rates.items() if 0 < written < 30}
    assert len(under_way) >= 2 and all(1 <= rate <= 10 for rate in under_way.values()), lines


def test_summary_has_the_rate_of_the_jobs_output():
    counters = {"rows_in": 100, "rows_out": 20}
    assert "(10/s)" in progress.summary(counters, 2.0, has_output=True)
    assert "(50/s)" in progress.summary(counters, 2.0, has_output=False)


def test_summary_names_rows_and_processes_that_were_lost():
    counters = {"rows_in": 9, "rows_out": 5, "rows_bad": 4, "process_deaths": 2}
    assert progress.summary(counters, 1.0, has_output=True).endswith("(5/s), 4 bad rows, 2 processes died")


@pytest.mark.cold
def test_processes_of_this_machine_are_counted():
    before, _ = progress.script_processes()  # of the tests' shared pool
    with subprocess.Popen([sys.executable, "-c", "input() # beam_tfscript.runtime"], stdin=subprocess.PIPE) as child:
        count, memory = progress.script_processes()
        child.communicate(b"\n")
    assert count == before + 1 and memory > 10 << 20


def test_line_fits_a_terminal():
    counters = {"rows_in": 123_456_789, "rows_out": 123_456_789}
    assert len(progress.line(counters, 1_234_567.0, 9999.0, 16, 99 << 30)) <= 90

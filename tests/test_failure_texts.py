"""Texts of failures, as a user of Beam sees them, and the levels of lines that a script printed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import traceback

import pytest

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.cli import advice
from beam_tfscript.errors import ArgumentError, ScriptDied, ScriptRaised
from tests.running import ENGINES
from tests.without_tensorflow import blocked

PIPELINE = """
import sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from beam_tfscript import RunTFScript
try:
    with beam.Pipeline(options=PipelineOptions(["--runner=" + sys.argv[1]])) as pipeline:
        pipeline | beam.Create([{"x": 1.0}]) | RunTFScript(
            sys.argv[2], "y float", input_schema="x float", env={"PYTHONPATH": sys.argv[3]}
        )
except Exception as error:
    print("SAID", str(error).splitlines()[0], file=sys.stderr)
    raise
"""
RAISES = """import sys
def helper(value):
    raise ValueError("bad value %r\\nand more" % value)
def main(config):
    for at in range(30):
        print("step", at)
    sys.stderr.write("no line end")
    try:
        {}["absent"]
    except KeyError:
        helper(3)
"""
SUMMARY = "score.py, line 3: ValueError: bad value 3 […]"


@pytest.fixture
def run(in_memory, tmp_path):
    """Run a script without TensorFlow on twenty rows."""

    def run(text, **arguments):
        (tmp_path / "score.py").write_text(text)
        arguments.setdefault("output_schema", "y float")
        made = RunTFScript(
            str(tmp_path / "score.py"), input_schema="x float", env=blocked(tmp_path), **arguments
        )  # fmt: skip
        return in_memory.run(made, [{"x": 1.0}] * 20)

    return run


def text_of(run, script, **arguments):
    with pytest.raises(Exception) as failed:
        run(script, **arguments)
    error = advice.find_cause(failed.value)
    assert error is not None
    return error, str(error)


@pytest.mark.parametrize("engine", ["in_memory", "bundle_based"])
def test_first_and_last_line_that_a_program_shows_are_the_scripts_error(tmp_path, engine):
    (tmp_path / "score.py").write_text(RAISES)
    env = blocked(tmp_path)["PYTHONPATH"]
    command = [sys.executable, "-c", PIPELINE, ENGINES[engine], str(tmp_path / "score.py"), env]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert SUMMARY in lines[0], lines[:3]
    assert lines[-1].startswith(SUMMARY), lines[-3:]
    # The text that the program's own `except` gets.
    assert f"SAID {SUMMARY}" in lines


def test_traceback_that_a_worker_sends_begins_with_the_summary():
    """Runners with workers of their own raise a RuntimeError with the text that the worker made of the error."""
    try:
        try:
            raise ScriptRaised(f"{SUMMARY}\nscore.py: the script raised ValueError:\n{SUMMARY}")
        except ScriptRaised as error:
            # As Beam's DoFnRunner does.
            again = type(error)(error.args[0] + " [while running 'Script']")
            raise again.with_traceback(error.__traceback__)  # noqa: B904 - as Beam does
    except ScriptRaised:
        lines = traceback.format_exc().splitlines()
    assert lines[0] == f"beam_tfscript.errors.Summary: {SUMMARY}"
    assert lines[-1] == f"{SUMMARY} [while running 'Script']"


def test_error_of_a_script_that_raised_shows_what_it_printed_last(run):
    error, text = text_of(run, RAISES)
    assert isinstance(error, ScriptRaised)
    first, label, *rest = text.splitlines()
    assert first == SUMMARY and rest[-1].startswith(SUMMARY)
    assert label == "score.py chief:0 shard 0/1 attempt 1: the script raised ValueError:"
    assert rest[0] == "The last lines that it printed:"
    printed = [line for line in rest if line.startswith("  | ")]
    # stdout and stderr are two pipes: their lines may change places.
    assert len(printed) == 20 and "  | no line end" in printed
    assert [line for line in printed if "step" in line] == [f"  | step {at}" for at in range(11, 30)]
    # A chained traceback is shown in full.
    assert (
        "KeyError: 'absent'" in rest and "During handling of the above exception, another exception occurred:" in rest
    )


def test_error_of_a_script_that_died_shows_both_streams_and_ends_with_the_death(run):
    text = "import os, sys\ndef main(config):\n    print('on stdout')\n    print('on stderr', file=sys.stderr)\n"
    error, text = text_of(run, text + "    os.kill(os.getpid(), 9)\n")
    assert isinstance(error, ScriptDied)
    lines = text.splitlines()
    assert {"on stdout", "on stderr"} <= set(lines)
    assert all("SIGKILL" in line for line in (lines[0], lines[-1]))


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("import nowhere_of_mine\ndef main(config): pass\n",
         "score.py, line 1: ModuleNotFoundError: No module named 'nowhere_of_mine'"),
        ("import sys\ndef main(config):\n    sys.exit(3)\n", "score.py, line 3: SystemExit: 3"),
        ("def main(config):\n    raise ValueError\n", "score.py, line 2: ValueError"),
        ("def main(config):\n    exec('x = = 1')\n", "score.py, line 2: SyntaxError: invalid syntax"),
        ("def main(config):\n    config.user_params.update(1)\n", "score.py, line 2: TypeError: "),
    ],
)  # fmt: skip
def test_summary_names_the_innermost_line_of_the_script(run, text, summary):
    _, text = text_of(run, text)
    assert text.startswith(summary) and text.splitlines()[-1].startswith(summary)


def test_lines_of_an_earlier_run_are_not_shown(run, tmp_path):
    text = (
        "import os\ndef main(config):\n    is_second = os.path.exists(config.user_params)\n"
        "    print('second' if is_second else 'first')\n"
        "    if is_second:\n        raise ValueError('one')\n"
        "    open(config.user_params, 'w').close()\n"
    )
    _, text = text_of(run, text, num_workers=2, max_processes=1, user_params=json.dumps(str(tmp_path / "first")))
    assert "  | second\n" in text and "  | first\n" not in text


def test_advice_is_not_taken_from_what_was_printed():
    error = ScriptRaised("s.py, line 1: ValueError: x\n  | No module named 'a', null\nValueError: x")
    assert "last line of its own" in advice.advise(error)


def test_printed_lines_are_logged_at_log_level(run, caplog):
    text = "import logging\ndef main(config):\n    print('plain')\n    logging.info('record')\n"
    for level, expected in (("warning", logging.WARNING), (25, 25)):
        caplog.clear()
        assert run(text, log_level=level) == []
        levels = {record.script_text: record.levelno for record in caplog.records if hasattr(record, "script_text")}
        assert (levels["plain"], levels["record"]) == (expected, logging.INFO)


@pytest.mark.parametrize("level", ["LOUD", 0, -1, True, 1.5, None])
def test_unknown_log_level_is_refused(tmp_path, level):
    (tmp_path / "score.py").write_text("def main(config): pass\n")
    for make in (RunTFScript, lambda *args, **more: TrainTFScript(*args, model_dir=None, **more)):
        with pytest.raises(ArgumentError, match="log_level must be a level of Python's logging"):
            make(str(tmp_path / "score.py"), log_level=level)


NOISE = """import os
def main(config):
    os.write(2, b'''E0000 00:00:1795308473.746351 17838 cuda_platform.cc:52] failed call to cuInit: \
INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
2024-05-21 12:00:00.1: E external/xla/stream_executor/cuda/cuda_fft.cc:479] Unable to register cuFFT factory: \
Attempting to register factory for plugin cuFFT when one has already been registered
W0000 00:00:1795308473.746351   17838 computation_placer.cc:177] computation placer already registered.
<frozen importlib._bootstrap>:488: DeprecationWarning: builtin type SwigPyPacked has no __module__ attribute
E0000 00:00:1795308473.746351   17838 bfc_allocator.cc:52] ran out of memory
''')
    raise ValueError
"""


def test_tensorflows_lines_of_each_start_are_no_warnings(run, caplog):
    caplog.set_level(logging.DEBUG, logger="beam_tfscript")
    _, text = text_of(run, NOISE)
    levels = [(record.levelno, record.script_text) for record in caplog.records if hasattr(record, "script_text")]
    assert [level for level, _ in levels] == [logging.DEBUG] * 4 + [logging.ERROR], levels
    assert "ran out of memory" in text and "cuInit" not in text


@pytest.mark.tensorflow
def test_start_of_this_tensorflow_logs_nothing_above_debug(in_memory, tmp_path, caplog):
    (tmp_path / "score.py").write_text("import tensorflow as tf\ndef main(config): tf.constant(1) + 1\n")
    in_memory.run(RunTFScript(str(tmp_path / "score.py"), input_schema="x float"), [{"x": 1.0}])
    shown = [record.script_text for record in caplog.records if hasattr(record, "script_text") and record.levelno > 10]
    assert shown == []

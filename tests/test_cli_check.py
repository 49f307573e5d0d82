"""`beam-tfscript check`, with real script processes: its output, its advice and its exit status."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

from beam_tfscript.cli.main import main
from tests.cli_files import NAMES, SCHEMA, write_rows
from tests.environments import write_wheel
from tests.without_tensorflow import blocked

# Without TensorFlow, so that a process starts in a tenth of a second.
ECHO = """
import struct
def main(config):
    print("shard", config.shard, "has", config.dataset_length)
    config.counter("runs").inc()
    config.distribution("sizes").update(config.dataset_length)
    with open(config.dataset_file, "rb") as records:
        while head := records.read(12):
            config.output_writer.write(records.read(struct.unpack("<Q", head[:8])[0]))
            records.read(4)
"""
FED = """
def main(config):
    for records in config.example_batches(8):
        print("a batch of", len(records))
        for record in records:
            config.output_writer.write(record)
"""


@pytest.fixture
def check(tmp_path, capsys):
    """Run the command in this process, on a script without TensorFlow; return status, stdout and stderr."""
    variables = [f"--env={name}={value}" for name, value in blocked(tmp_path).items()]

    def run(text, *flags, with_tensorflow=False):
        path = tmp_path / "tried.py"
        path.write_text(text)
        status = main(["check", str(path), *flags, *(() if with_tensorflow else variables)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def rows(tmp_path):
    """File of thirty rows."""
    return write_rows(tmp_path / "rows.parquet")


@pytest.mark.parametrize("name", NAMES)
def test_shows_what_was_read_written_counted_and_printed(check, tmp_path, name):
    data = write_rows(tmp_path / name)
    status, out, err = check(ECHO, "--data", data, "--output-schema", SCHEMA, "--rows=7")
    assert (status, err) == (0, "")
    guessed = "id string, x float" if "tfrecord" in name or "parquet" in name else "id string, x double"
    for line in (
        f"File:         {data}",
        f"Columns (guessed; give them as --input-schema to be sure):\n  {guessed}\n",
        "Rows read:    7\n  id  x\n  r0  0\n  r1  0.5\n",
        "  … and 2 more\n",
        "  | shard 0 has 7\n",
        "Rows written: 7\n  id  x\n  r0  0\n",
        "Counted:      runs 1, sizes 1 values from 7 to 7, mean 7\n",
        "TensorFlow missing (",
        " to start and import TensorFlow, ",
    ):
        assert line in out
    assert out.endswith("All is well.\n")


@pytest.mark.parametrize("feed", ["bundles", "stream"])
def test_feeds_rows_as_they_come(check, rows, feed):
    status, out, err = check(FED, "--data", rows, "--output-schema", SCHEMA, "--rows=20", f"--feed={feed}")
    assert (status, err) == (0, "")
    assert "Rows written: 20\n" in out and out.count("  | a batch of") >= 3


def test_arguments_reach_the_script(check, rows):
    text = """
import os, sys
def go(config):
    print(config.user_params, sys.argv[1:], os.environ["COLOR"], config.input_schema.names, config.num_shards)
"""
    status, out, _ = check(
        text, "--data", rows, "--entry=go", '--user-params={"n": 3}', "--script-arg=--buckets", "--script-arg=a,b",
        "--env=COLOR=blue", "--selected-cols=x", "--num-workers=2", "--input-schema", "id string, x double",
    )  # fmt: skip
    assert status == 0
    for shard in ("0/2", "1/2"):
        assert f"  chief:0 shard {shard} | {{'n': 3}} ['--buckets', 'a,b'] blue ['x'] 2\n" in out
    assert "Columns:\n  id string, x double\n" in out


def test_cluster_is_as_the_flags_say(check, rows, tmp_path):
    # A cluster ends with its workers: they wait for its parameter server.
    text = f"""
import os, time
def main(config):
    print("here is", config.task_type, len(config.cluster.get("worker", [])), flush=True)
    if config.task_type == "ps":
        open({str(tmp_path / "ps")!r}, "w").close()
        time.sleep(1)
    end = time.monotonic() + 20
    while "ps" in config.cluster and not os.path.exists({str(tmp_path / "ps")!r}) and time.monotonic() < end:
        time.sleep(0.05)
"""
    status, out, err = check(text, "--data", rows, "--num-workers=2", "--num-ps=1", "--ps-main")
    assert status == 0, err
    for place in ("chief:0 shard 0/2", "worker:0 shard 1/2", "ps:0 of 2 workers"):
        assert f"  {place} | here is {place.partition(':')[0]} 1\n" in out
    status, out, err = check(text, "--data", rows, "--num-workers=2", "--placement=one_host")
    assert status == 0 and "| here is worker 1\n" in out


# Script, flags; exit status, error class, text of the error, text of the advice.
FAILURES = {
    "raises": ("def main(config):\n    1 / 0\n", (), 1, "ScriptRaised", "ZeroDivisionError", "last line of its own"),
    "lacks a module": (
        "import polars_of_mine\ndef main(config): pass\n", (), 1, "ScriptLoadError", "polars_of_mine", "--user-file",
    ),
    "syntax": ("def main(config:\n", (), 1, "ScriptLoadError", "line 1", "Correct the script"),
    "other entry": ("import os\ndef go(config): pass\n", (), 1, "ScriptLoadError", "(go)", "--entry"),
    "dies": ("import os\ndef main(config): os.kill(os.getpid(), 11)\n", (), 1, "ScriptDied", "SIGSEGV", "last lines"),
    "writes without a schema": (
        "def main(config): config.write(x=1)\n", (), 1, "ScriptRaised", "output_schema=None", "--output-schema",
    ),
    "writes what does not fit": (
        "def main(config): config.output_writer.write(b'')\n", ("--output-schema=y float",),
        1, "OutputError", "'y'", "--output-schema",
    ),
    "does not read": (
        "def main(config): pass\n", ("--feed=bundles",), 1, "FeedError", "its feed goes on", "config.batches(n)",
    ),
    "takes parameters as text": (
        "import json\ndef main(config): json.loads(config.user_params['names'])\n", ('--user-params={"names": ["a"]}',),
        1, "ScriptRaised", "JSON object must be str", "--compat-params strings",
    ),
    "looks for a parameter": (
        "def main(config):\n    params = config.user_params\n    params['names']\n", (),
        1, "ScriptRaised", "KeyError: 'names'", "--user-params",
    ),
    "trains": (
        "def main(config): config.saved_model_dir\n", (),
        1, "ScriptRaised", "'saved_model_dir': a config's attributes depend", "--train",
    ),
    "reads a stream": ("def main(config): config.dataset_fn()\n", (), 1, "ScriptRaised", "dataset_fn", "--feed stream"),
    "reads a file": (
        "def main(config): config.dataset_file\n", ("--feed=stream",),
        1, "ScriptRaised", "dataset_file", "--feed dataset",
    ),
    "writes a row that does not fit": (
        "def main(config): config.write(y='a')\n", ("--output-schema=y float",),
        1, "ScriptRaised", 'File "beam_tfscript/runtime/config/task_config.py"', "--output-schema",
    ),
    "imports what is not of the runtime": (
        "import akdl.models.tf\ndef main(config): pass\n", (), 1, "ScriptLoadError", "akdl.models", "docs/compat.md",
    ),
    "environment's interpreter": (
        ECHO, (f"--python-env={sys.prefix}/bin/python",), 2, "ArgumentError", f"{sys.prefix!r}, got", "flag",
    ),
    "column that is not there": (
        ECHO, ("--input-schema=id string, z float",), 2, "SchemaError", "'z'", "Correct the schema",
    ),
    "type of another family": (ECHO, ("--input-schema=id bigint",), 2, "SchemaError", "'id'", "Correct the schema"),
    "no such file": (ECHO, ("--data=/nowhere/rows.csv",), 2, "ArgumentError", "/nowhere/rows.csv", "flag"),
    "unknown format": (ECHO, ("--data=/nowhere/rows",), 2, "ArgumentError", "--input-format", "flag"),
    "bad variable": (ECHO, ("--env=NOTHING",), 2, "ArgumentError", "NAME=VALUE, got no equals sign", "flag"),
    "no environment": (ECHO, ("--python-env=/nowhere",), 2, "ArgumentError", "/nowhere", "flag"),
    "no rows wanted": (ECHO, ("--rows=0",), 2, "ArgumentError", "--rows", "flag"),
    "more accelerators than there are": (
        ECHO, ("--accelerators-per-process=9",),
        1, "ScriptEnvironmentError", "accelerators_per_process=9, and this worker has 2: 4, 5", "leave the flag out",
    ),
    "rows of a training": (ECHO, ("--train", "--output-schema=x float"), 2, "ArgumentError", "--train", "flag"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_explains_what_is_wrong(check, rows, case, tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATORS", "4,5")
    monkeypatch.setenv("BEAM_TFSCRIPT_ACCELERATOR_LOCKS", str(tmp_path / "locks"))
    text, flags, expected, kind, shown, advice = FAILURES[case]
    status, out, err = check(text, "--data", rows, *flags)
    assert status == expected
    assert err.startswith(f"\n{kind}: ") and shown in err
    assert advice in err.rpartition("\nWhat to do: ")[2]
    assert "All is well." not in out


def test_file_of_another_format_is_an_error(check, tmp_path):
    (tmp_path / "rows.tfrecord").write_bytes(b"id,x\na,1\nb,2\nc,3\n")
    status, _, err = check(ECHO, "--data", str(tmp_path / "rows.tfrecord"))
    assert status == 1 and "is not a TFRecord file" in err


def test_value_that_does_not_fit_is_named(check, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", [{"id": "a", "x": 1}, {"id": "b", "x": 300}])
    status, _, err = check(ECHO, "--data", data, "--input-schema=x tinyint")
    assert status == 1 and "RowError" in err and "300" in err


def test_interpreter_that_does_not_start_is_the_first_error_shown(check, rows, tmp_path):
    broken = tmp_path / "env" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 3\n")
    broken.chmod(0o755)
    status, out, err = check(ECHO, "--data", rows, f"--python-env={tmp_path / 'env'}", "--start-timeout=30")
    assert status == 1 and "ScriptEnvironmentError" in err and "no such library" in err and "--python-env" in err
    assert "Script in:" not in out


@pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
def test_import_of_the_script_and_main_are_timed_apart(check, rows, feed):
    text = ECHO if feed == "dataset" else FED
    text = "import time\ntime.sleep(1.2)\n" + text.replace(
        "def main(config):", "def main(config):\n    time.sleep(0.3)"
    )
    status, out, _ = check(text, "--data", rows, "--output-schema", SCHEMA, f"--feed={feed}")
    assert status == 0, out
    load_s, main_s = map(float, re.search(r"([\d.]+) to import the script, ([\d.]+) in main", out).groups())
    assert 1.2 <= load_s < 4 and 0.3 <= main_s < 4


def test_script_that_cannot_be_imported_has_no_time_in_main(check, rows):
    status, out, _ = check("import polars_of_mine\ndef main(config): pass\n", "--data", rows)
    assert status == 1
    assert re.search(r"[\d.]+ in the script\n", out) and "in main" not in out


def test_rows_written_before_a_failure_are_shown(check, rows):
    text = "def main(config):\n    config.write(id='first', x=1.0)\n    config.output_writer.flush()\n    1 / 0\n"
    status, out, _ = check(text, "--data", rows, "--output-schema", SCHEMA)
    assert status == 1 and "Rows written: 1\n  id     x\n  first  1\n" in out


def test_rounded_doubles_are_noted(check, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", [{"id": "a", "x": 0.1}])
    _, out, _ = check(ECHO, "--data", data, "--output-schema", "id string, x double")
    assert "Note: 1 values of double columns lost digits" in out


@pytest.mark.tensorflow
def test_training_shows_its_model(check, rows):
    text = """
import tensorflow as tf
def main(config):
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    for step in range(3):
        config.report(loss=1.5 - step, rows=config.dataset_length)
    tf.saved_model.save(module, config.saved_model_dir, signatures=module.double)
"""
    status, out, err = check(text, "--data", rows, "--train", with_tensorflow=True)
    assert status == 0, err
    assert (
        "Model:        1 signature\n  serving_default inputs: x float32[?]\n  serving_default outputs: y float32[?]\n"
        in out
    )
    assert "Reported:     loss -0.5, rows 20\n" in out
    assert ", TensorFlow 2." in out


def test_environment_that_takes_long_to_build_is_reported_and_used(check, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_TFSCRIPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("beam_tfscript.python_env.building.NOTICE_S", 0.05)
    wheels = write_wheel(tmp_path / "wheels", "tiny")
    text = "import tiny\ndef main(config): print('tiny', tiny.VERSION)\n"
    status, out, err = check(text, "--data", rows, "--requirements=--no-index", f"--requirements={wheels}",
                             "--requirements=tiny==1.0")  # fmt: skip
    assert (status, err) == (0, "")
    assert "\nstill building " in out and "  | tiny 1.0\n" in out


def test_unknown_flag_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["check", "score.py", "--data=rows.csv", "--otput-schema=x float"])
    assert caught.value.code == 2
    assert "check has no flag --otput-schema. Is it --output-schema" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["check", "score.py", "--data=rows.csv", "other.py"])
    assert caught.value.code == 2 and "no argument 'other.py'" in capsys.readouterr().err


def test_requirements_file_is_read(check, rows, tmp_path):
    (tmp_path / "needed.txt").write_text("# a comment\n\ntensorflow==2.3.4\nno requirement at all!\n")
    status, _, err = check(ECHO, "--data", rows, "--requirements", str(tmp_path / "needed.txt"))
    assert status == 2 and "no requirement at all!" in err


def test_command_and_module_are_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "beam_tfscript", "check", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: beam-tfscript check") and "--python-env" in done.stdout


@pytest.mark.parametrize("command", ["check", "run"])
def test_documentation_names_all_flags_and_no_others(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    flag = r"--[a-z][a-z-]+(?![a-z_])"
    known = set(re.findall(flag, capsys.readouterr().out.partition("options:")[2])) - {"--help"}
    page = (pathlib.Path(__file__).parent.parent / "docs" / "cli.md").read_text("utf-8")
    _, *parts = re.split(r"^## (?:check|run|Flags)", page, flags=re.MULTILINE)
    documented = re.findall(flag, parts[["check", "run"].index(command)] + parts[2])
    assert set(documented) - {"--runner"} == known - {"--runner"}


def test_cluster_on_several_machines_is_tried_on_this_one(check, rows):
    text = ECHO + '\n    print("at", config.cluster["worker"])\n'
    status, out, err = check(
        text, "--data", rows, "--output-schema", SCHEMA, "--rows=7", "--num-workers=2", "--placement=spread"
    )
    assert (status, err) == (0, "")
    assert "Rows written: 7\n" in out and "at ['localhost:" in out, out

"""First steps of a new user, with the wheel installed: each of them has failed for somebody."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import time

import apache_beam as beam
import pytest
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Timestamp

import beam_tfscript
from beam_tfscript import RunTFScript
from beam_tfscript.errors import ArgumentError

BIN = pathlib.Path(sys.executable).parent
SCHEMA = "id string, score float"


def run(*command, timeout=240, **arguments):
    """Return the output of a command, which must end with status 0."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def saved(rows, path):
    """Write the rows as text, as DoFns may run in any process."""
    return rows | beam.Map(lambda row: repr(sorted(row._asdict().items()))) | beam.io.WriteToText(str(path))


def lines(path):
    return sorted(line for file in path.parent.glob(path.name + "-*") for line in file.read_text().splitlines())


def test_this_is_the_wheel_and_not_a_checkout():
    assert "site-packages" in beam_tfscript.__file__
    assert importlib.metadata.version("beam-tfscript") == beam_tfscript.__version__


def test_what_is_installed_goes_together():
    from packaging.requirements import Requirement

    for line in importlib.metadata.requires("beam-tfscript"):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            version = importlib.metadata.version(requirement.name)
            assert requirement.specifier.contains(version, prereleases=True), f"{line}: {version} is installed"


def test_metadata_names_authors_addresses_and_pythons():
    found = importlib.metadata.metadata("beam-tfscript")
    assert found["Author"] and found.get_all("Project-URL") and found.get_all("Classifier")
    links = re.findall(r"\]\(([^)#]+)\)", found.get_payload() or found["Description"])
    assert len(links) > 10 and all(link.startswith("https://") for link in links)


def test_readme_runs_as_it_is_printed(checkout, work):
    """The first snippets of README, put into files; with TensorFlow, as its script loads a model."""
    snippets = re.findall(r"```python\n(.*?)```", (checkout / "README.md").read_text(), re.DOTALL)[:2]
    pipeline, script = snippets
    (work / "score.py").write_text(script)
    (work / "pipeline.py").write_text(pipeline)
    done = run(sys.executable, "pipeline.py")
    assert len(re.findall(r"id='[ab]', score=", done.stdout)) == 2, done.stdout + done.stderr
    # TensorFlow has much to say when it starts, and nothing of it is an error.
    assert "ERROR" not in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_read_from_csv(work):
    (work / "rows.csv").write_text("id,x\na,1.5\nb,2.5\n")
    with beam.Pipeline() as pipeline:
        rows = pipeline | beam.io.ReadFromCsv(str(work / "rows.csv"))
        saved(rows | RunTFScript("score.py", SCHEMA), work / "out")
    assert lines(work / "out") == ["[('id', 'a'), ('score', 3.0)]", "[('id', 'b'), ('score', 5.0)]"]


def test_timestamps_of_beam(work):
    (work / "times.py").write_text(
        "def main(config):\n"
        "    for batch in config.batches(512):\n"
        "        config.write_batch(id=batch['id'], at=batch['at'])\n"
    )
    with beam.Pipeline() as pipeline:
        rows = pipeline | beam.Create([beam.Row(id="a", at=Timestamp(1.5))])
        schema = "id string, at timestamp"
        saved(rows | RunTFScript("times.py", schema), work / "out")
    assert lines(work / "out") == ["[('at', Timestamp(1.500000)), ('id', 'a')]"]


COUNT = """
def main(config):
    for records in config.example_batches(512):
        config.write(rows=len(records))
"""
PIPELINE = """
import apache_beam as beam
from beam_tfscript import RunTFScript

with beam.Pipeline() as pipeline:
    rows = pipeline | beam.Create([beam.Row(id="a", x=1.0)])
    counts = rows | RunTFScript("count.py", "rows bigint", feed="bundles", env={env!r})
    counts | beam.Map(lambda row: print(row.rows))
"""


def test_programs_end_without_a_word(work, without_tensorflow):
    """From Python 3.12 on, an interpreter that is shutting down starts no thread any more."""
    (work / "count.py").write_text(COUNT)
    (work / "pipeline.py").write_text(PIPELINE.format(env=without_tensorflow))
    for _ in range(5 if sys.version_info >= (3, 12) else 1):
        done = run(sys.executable, "pipeline.py")
        assert done.stdout == "1\n"
        assert "Traceback" not in done.stderr and "thread" not in done.stderr, done.stderr
        assert not [name for name in os.listdir(work / "scratch") if name.startswith("beam_tfscript")]


def test_a_source_that_waits_for_the_clock(work):
    pipeline = beam.Pipeline(runner="DirectRunner")
    rows = (
        pipeline
        | PeriodicImpulse(start_timestamp=time.time(), fire_interval=1)
        | beam.Map(lambda at: beam.Row(id="a", x=float(at)))
        | beam.WindowInto(FixedWindows(5))
    )
    with pytest.raises(ArgumentError, match="PeriodicImpulse.*PrismRunner.*bundles"):
        rows | RunTFScript("score.py", SCHEMA)
    assert rows | "In bundles" >> RunTFScript("score.py", SCHEMA, feed="bundles")


def test_command_line(work):
    """With TensorFlow: this is where a user sees what its start is like."""
    (work / "rows.csv").write_text("id,x\n" + "".join(f"r{i},{i}.5\n" for i in range(30)))
    assert beam_tfscript.__version__ in run(BIN / "beam-tfscript", "--version").stdout
    flags = ["--output-schema", SCHEMA]
    done = run(BIN / "beam-tfscript", "check", "score.py", "--data", "rows.csv", *flags)
    assert "All is well." in done.stdout and "Rows written: 20" in done.stdout
    run(BIN / "beam-tfscript", "run", "score.py", "--input", "rows.csv", "--output", "out", *flags)
    written = "".join(path.read_text() for path in work.glob("out*"))
    assert '"r29",59\n' in written


def test_unknown_flag_is_refused(work):
    (work / "rows.csv").write_text("id,x\na,1.5\n")
    done = subprocess.run(
        [BIN / "beam-tfscript", "run", "score.py", "--input", "rows.csv", "--output", "out", "--num-wrkers", "2"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--num-wrkers" in done.stderr and "--num-workers" in done.stderr

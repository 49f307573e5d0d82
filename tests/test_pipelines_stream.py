"""The streaming demo, run for real: files arrive during the run, windows end, and a drift is reported."""

from __future__ import annotations

import ast
import calendar
import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from pipelines import stream_drift, stream_feed, stream_folder
from tests.engines import prism
from tests.engines.server import started
from tests.engines.tools import ToolMissing
from tests.running import Runner

pytestmark = pytest.mark.tensorflow

PROJECT = Path(__file__).resolve().parents[1]
START = 1_700_000_000
WINDOW_S = 4
RATE = 60


@pytest.fixture(scope="module")
def job_server(tmp_path_factory):
    """Start Prism, and return its address."""
    try:
        prism.build()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    with started(prism, tmp_path_factory.mktemp("prism")) as address:
        yield address


def run_command(module, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{module}", *map(str, arguments)],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process, timeout):
    try:
        printed, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors[-4000:]
    return printed


@pytest.mark.trainings
def test_tells_the_window_in_which_the_digits_change_and_reads_them_again_later(job_server, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "half.jsonl.part").write_text('{"at": ')  # is being written
    (folder / "broken.jsonl").write_text('{"at": 1, "label": 3}\nnot JSON\n')
    job = run_command(
        "stream_drift", f"--input={folder}", f"--output={output}", f"--window={WINDOW_S}", "--runner=PortableRunner",
        f"--job_endpoint={job_server}", "--environment_type=LOOPBACK",
    )  # fmt: skip
    feeder = run_command(
        "stream_feed", folder, "--seconds=28", f"--rate={RATE}", "--drift_after=12", f"--start={START}"
    )
    try:
        finish(feeder, timeout=60)
        printed = finish(job, timeout=120)
    finally:
        job.kill()
        job.wait()
    reports = [json.loads(path.read_text()) for path in output.glob("*.json")]
    reports.sort(key=lambda report: report["start"])
    assert [report["start"] for report in reports] == [START + i * WINDOW_S for i in range(7)]
    assert {report["rows"] for report in reports} == {RATE * WINDOW_S}
    assert [report["start"] for report in reports if report["drifted"]] == [START + 12]
    # Windows that are over at the same time, on a slow machine, are learned in any order.
    assert max(report["learned"] for report in reports) == 28 * RATE
    before, changed, last = reports[2], reports[3], reports[-1]
    assert before["accuracy"] > 0.75
    assert changed["accuracy"] < 0.2 and changed["loss"] > 2 * before["loss"]
    assert last["accuracy"] > 0.4
    drift_lines = [line for line in printed.splitlines() if line.endswith("DRIFT")]
    assert len(drift_lines) == 1 and drift_lines[0].startswith("22:13:32 UTC")
    assert (output / "model" / "shard-0.npz").exists()


def test_readme_shows_what_is_printed():
    """The README's lines are those of the default window and rate, made by the same function."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    number = r" +([\d.]+)"
    pattern = (
        rf"^(\d\d:\d\d:\d\d) UTC  10 s{number} digits{number} % right  loss{number}  PSI{number} \((.+?)\)(  DRIFT)?$"
    )
    lines = list(re.finditer(pattern, readme, re.MULTILINE))
    assert len(lines) == 2
    for line in lines:
        clock, rows, right, loss, psi, feature, drifted = line.groups()
        report = {
            "start": calendar.timegm(time.strptime(f"2026-01-01 {clock}", "%Y-%m-%d %H:%M:%S")), "seconds": 10.0,
            "rows": int(rows), "accuracy": float(right) / 100, "loss": float(loss), "psi": float(psi),
            "feature": feature, "drifted": bool(drifted),
        }  # fmt: skip
        assert stream_drift.format_report(report) == line[0]


def rows_of(n, *, drift="none", start_s=0.0):
    """Return digits as the pipeline parses them, at their event times, with the drift from the first on."""
    rows = stream_feed.make_rows(start_s=start_s, rate=100, drift=drift, drift_after_s=0)
    parsed = (stream_drift.parse_line(json.dumps(row)) for row in itertools.islice(rows, n))
    return [TimestampedValue(row, at_s) for at_s, row in parsed]


class ReportDrift(beam.PTransform):
    """Steps after the source."""

    def __init__(self, model_dir):
        super().__init__()
        self._model_dir = str(model_dir)

    def expand(self, rows):
        return stream_drift.report_drift(rows, model_dir=self._model_dir, window_s=10, lateness_s=60)


def test_rows_that_come_late_are_reported_apart_and_learned_too(tmp_path, monkeypatch):
    monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    source = (
        TestStream()
        .add_elements(rows_of(600))
        .advance_watermark_to(10)
        .add_elements(rows_of(600, drift="shift", start_s=10))
        .add_elements(rows_of(50))
        .advance_watermark_to_infinity()
    )
    rows = Runner("bundle_based", tmp_path).run(
        ReportDrift(tmp_path / "model"), [None], before=lambda pcoll: pcoll.pipeline | "Stream" >> source
    )
    rows.sort(key=lambda row: (row["start"], -row["rows"]))
    assert [(row["start"], row["rows"]) for row in rows] == [(0, 600), (0, 50), (10, 600)]
    assert [row["drifted"] for row in rows] == [False, False, True]
    assert [row["psi"] is None for row in rows] == [True, True, False]
    assert max(row["learned"] for row in rows) == 1250


def test_windows_that_end_at_once_are_all_learned(tmp_path):
    starts = range(0, 60, 10)
    rows = [row for start in starts for row in rows_of(150, start_s=start)]
    source = TestStream().add_elements(rows).advance_watermark_to_infinity()
    reports = Runner("bundle_based", tmp_path).run(
        ReportDrift(tmp_path / "model"), [None], before=lambda pcoll: pcoll.pipeline | "Stream" >> source
    )
    assert sorted(report["start"] for report in reports) == list(starts)
    # Each window adds to the digits that earlier ones learned.
    assert sorted(report["learned"] for report in reports) == [150 * (i + 1) for i in range(len(starts))]


@pytest.mark.parametrize("exists", [True, False])
def test_folder_without_files_doesnt_end_the_stream(tmp_path, exists):
    folder = tmp_path / "in"
    if exists:
        folder.mkdir()
    source = stream_folder.WatchFolder(str(folder), parse=stream_drift.parse_line, poll_s=0.01)
    tracker = ThreadsafeRestrictionTracker(
        source.reader.LISTINGS.create_tracker(source.reader.LISTINGS.initial_restriction(str(folder)))
    )
    watermark = ManualWatermarkEstimator(None)
    assert list(source.reader.process(str(folder), RestrictionTrackerView(tracker), watermark)) == []
    assert tracker.deferred_status() is not None
    tracker.check_done()


def test_refuses_an_engine_that_would_look_once(tmp_path):
    with pytest.raises(SystemExit, match="--runner=DirectRunner reads the folder only once"):
        stream_drift.main(["--input", str(tmp_path), "--output", str(tmp_path), "--runner=DirectRunner"])


def test_passes_other_options_on_to_beam(tmp_path):
    with pytest.raises(ValueError, match="NoSuchRunner"):
        stream_drift.main(["--input", str(tmp_path), "--output", str(tmp_path), "--runner=NoSuchRunner"])


@pytest.mark.parametrize("drift", ["invert", "shift"])
def test_feeder_changes_the_images_from_the_time_on_and_not_the_labels(drift):
    def some(kind):
        return list(itertools.islice(stream_feed.make_rows(start_s=5, rate=10, drift=kind, drift_after_s=2), 40))

    plain, changed = some("none"), some(drift)
    assert [row["at"] for row in changed] == pytest.approx([5 + i / 10 for i in range(40)])
    assert [row["label"] for row in changed] == [row["label"] for row in plain]
    same = [one["image"] == other["image"] for one, other in zip(plain, changed)]
    assert same == [True] * 20 + [False] * 20
    assert sum(map(sum, (row["image"] for row in some("shift")))) == sum(map(sum, (row["image"] for row in plain)))


def test_feeder_gives_files_their_name_when_they_are_whole_and_ends_the_stream(tmp_path):
    rows = stream_feed.make_rows(start_s=0, rate=5, drift="none", drift_after_s=0)
    stream_feed.drop_files(str(tmp_path / "new"), rows, rate=5, seconds=2)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert len(names) == 3 and names[-1] == "END" and all(name.endswith(".jsonl") for name in names[:2])
    lines = (tmp_path / "new" / names[1]).read_text().splitlines()
    assert [stream_drift.parse_line(line)[0] for line in lines] == [1.0, 1.2, 1.4, 1.6, 1.8]


def test_script_is_python_3_6():
    ast.parse(stream_drift.SCRIPT.read_text("utf-8"), feature_version=(3, 6))

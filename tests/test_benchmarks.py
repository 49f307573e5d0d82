"""The benchmarks at a size where only their results matter: the same predictions, and a report without gaps."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from benchmarks import files, report
from benchmarks.digest import Digest, digest_block
from benchmarks.files_jobs import JOBS
from benchmarks.throughput import ALL_CONTENDERS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROWS = 2000


def run_benchmark(module, *arguments):
    """Run a benchmark as a user does; importing TensorFlow here would slow down the other tests."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)


def result(contender, *, rows=1000, whole_s=10.0, half_s=6.0, startup_s=2.0, checksum=100.0, other_cpu_share=0.0):
    digest = Digest(rows, checksum, first_checksum=checksum)
    return report.Result(contender, rows, whole_s, half_s, startup_s, whole_s, other_cpu_share, 100.0, 0.0, digest)


def ratio_values(results, **options):
    options = {"rows": 1000, "compute_bound": False, **options}
    return {ratio.name: ratio.value for ratio in report.compare(results, **options)}


@pytest.mark.benchmarks
def test_all_contenders_give_the_same_predictions(tmp_path):
    figures = tmp_path / "figures.json"
    done = run_benchmark(
        "throughput", f"--rows={ROWS}", "--whole-time-only", f"--json={figures}", f"--work-dir={tmp_path}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = {result["contender"]: result for result in json.loads(figures.read_text())["results"]}
    assert set(results) == set(ALL_CONTENDERS)
    for contender, figure in results.items():
        assert figure["digest"]["rows"] == ROWS
        assert figure["peak_rss_mib"] > 50
        assert report.LABELS[contender] in done.stdout
        if contender != "beam_read":
            checksum = results["plain"]["digest"]["checksum"]
            assert checksum != 0
            assert math.isclose(figure["digest"]["checksum"], checksum, rel_tol=1e-6), contender
    for ratio in json.loads(figures.read_text())["ratios"]:
        assert ratio["name"] in done.stdout
    assert results["tfscript"]["child_peak_mib"] > 50
    assert "Predictions: the same in all contenders" in done.stdout


@pytest.mark.benchmarks
def test_compute_bound_variant_gives_the_same_predictions(tmp_path):
    done = run_benchmark("throughput", "--compute-bound", "--rows=200", "--whole-time-only", f"--work-dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "target: at most 1.05" in done.stdout
    assert "Predictions: the same in all contenders" in done.stdout


@pytest.mark.benchmarks
def test_start_up_is_the_job_with_one_row(tmp_path):
    figures = tmp_path / "figures.json"
    done = run_benchmark(
        "throughput", f"--rows={ROWS}", "--contenders=beam_read", f"--json={figures}", f"--work-dir={tmp_path}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (figure,) = json.loads(figures.read_text())["results"]
    assert figure["startup_s"] > 0 and figure["half_s"] > 0
    assert (tmp_path / "rows-1.tfrecord").exists() and (tmp_path / f"rows-{ROWS // 2}.tfrecord").exists()


@pytest.mark.benchmarks
def test_files_hold_the_same_scores_whatever_wrote_them(tmp_path):
    figures = tmp_path / "figures.json"
    done = run_benchmark("files", f"--rows={ROWS}", "--repeats=1", f"--json={figures}", f"--work-dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Scores: the same in all contenders" in done.stdout
    found = {(one["file_format"], one["contender"]): one for one in json.loads(figures.read_text())}
    assert set(found) == set(JOBS)
    for one in found.values():
        assert one["rows"] == ROWS and one["cpu_s"] > 0 and one["peak_rss_mib"] > 50
        assert one["ratio"] == pytest.approx(one["whole_s"] / found[one["file_format"], "plain"]["whole_s"])


def test_files_report_compares_with_the_plain_script_of_the_format():
    both = [
        files.Figures("parquet", "plain", 1000, whole_s=2.0, cpu_s=4.0, peak_rss_mib=1.0, child_peak_mib=0.0),
        files.Figures("parquet", "bundles", 1000, whole_s=3.0, cpu_s=5.0, peak_rss_mib=1.0, child_peak_mib=1.0),
        files.Figures("tfrecord", "rows", 1000, whole_s=3.0, cpu_s=5.0, peak_rss_mib=1.0, child_peak_mib=1.0),
    ]
    assert [(one.ratio, one.cpu_ratio) for one in files.compare(both)] == [(1.0, 1.0), (1.5, 1.25), (None, None)]
    assert "1.50" in files.format_report(files.compare(both), repeats=3)
    digests = {("parquet", "plain"): Digest(10, 100.0), ("parquet", "bundles"): Digest(10, 100.5)}
    assert files.find_disagreement(digests) == "bundles (parquet)"
    assert files.find_disagreement({**digests, ("parquet", "bundles"): Digest(10, 100.0)}) is None


def test_rejects_an_unknown_contender(tmp_path):
    done = run_benchmark("throughput", "--contenders=plain,spark", f"--work-dir={tmp_path}")
    assert done.returncode == 2
    assert "unknown contender 'spark'; there are plain, beam_read, tfscript" in done.stderr


@pytest.mark.benchmarks
def test_memory_report_has_every_line(tmp_path):
    figures = tmp_path / "figures.json"
    done = run_benchmark("memory", "--gib=0.0625", f"--json={figures}", f"--work-dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(figures.read_text())
    assert values["rows"] == 64 * 64
    assert values["identity_peak_mib"] > 100 and values["tfscript_peak_mib"] > 100
    assert values["script_peak_mib"] >= values["script_after_import_mib"] > 50
    for line in ("GroupByKey of the same chunks", "RunTFScript", "importing TensorFlow", "having read all rows"):
        assert line in done.stdout
    assert done.stdout.count("target: at most 300") == 2


def test_digest_does_not_depend_on_order_but_on_which_row_has_which_score():
    ids, scores = [f"row-{number:09}" for number in range(5)], [0.1, 0.2, 0.3, 0.4, 0.5]
    digest = digest_block(ids, scores, first_rows=3)
    backwards = digest_block(ids[::-1], scores[::-1], first_rows=3)
    assert math.isclose(digest.checksum, backwards.checksum)
    assert math.isclose(digest.first_checksum, 0.1 * 1 + 0.2 * 2 + 0.3 * 3)
    assert not math.isclose(digest.checksum, digest_block(ids, scores[::-1], first_rows=3).checksum)


def test_rates_leave_start_up_out():
    figures = result("tfscript")
    assert figures.rate == 100
    assert figures.net_rate == 999 / 8
    assert figures.second_half_rate == 500 / 4


def test_no_rate_is_made_of_noise():
    figures = result("tfscript", whole_s=2.05, half_s=2.1)
    assert figures.net_rate is None and figures.second_half_rate is None


def test_whole_time_is_set_against_the_larger_of_script_and_read():
    peers = [result("plain", whole_s=4.0), result("beam_read", whole_s=5.0)]
    values = ratio_values([*peers, result("tfscript", whole_s=10.0)])
    assert values["whole time / larger of (plain script, Beam read + identity)"] == 2


def test_a_contender_with_fewer_rows_is_extrapolated_from_its_rate():
    slow = result("inference_default", rows=101, whole_s=12.0)
    assert slow.estimate_whole_s(1001) == pytest.approx(2 + 1001 / 10)
    text = report.format_report([result("plain"), slow], [], rows=1000, batch_size=64, repeats=1)
    assert "RunInference, default was given 101 rows: for 1,000 its whole time would be about 102 s" in text


def test_says_whose_predictions_differ():
    results = [result("plain"), result("tfscript"), result("tfx_bsl", checksum=100.1)]
    assert "plain TensorFlow script and tfx-bsl RunInference differ" in report.find_disagreement(results)
    assert report.find_disagreement(results[:2]) is None


def test_says_what_was_disturbed_by_other_work():
    results = [result("plain"), result("tfscript", other_cpu_share=0.25)]
    text = report.format_report(results, [], rows=1000, batch_size=64, repeats=1)
    assert "RunTFScript: other work took up to 25% of the machine's CPU time" in text
    assert "plain TensorFlow script: other work" not in text


def test_says_which_targets_are_missed():
    ratios = report.compare(
        [result("plain", whole_s=10.0), result("tfscript", whole_s=10.6)], rows=1000, compute_bound=True
    )
    assert "MISSED" in ratios[0].verdict()
    ratios = report.compare(
        [result("plain", whole_s=10.0), result("tfscript", whole_s=10.4)], rows=1000, compute_bound=True
    )
    assert ratios[0].verdict() == "target: at most 1.05, met"

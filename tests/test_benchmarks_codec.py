"""The codec benchmark at a size where only its results matter."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.benchmarks

ROOT = pathlib.Path(__file__).parent.parent


def test_all_ways_agree_and_the_report_has_no_gaps(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.codec", "--values", "1", "--rounds", "1", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    report = json.loads(figures.read_text())
    cases = {"3 columns", "30 columns", "300 columns", "1024 floats"}
    assert (
        {figure["case"] for figure in report["figures"]} == {verdict["case"] for verdict in report["verdicts"]} == cases
    )
    assert all(figure["micros"] > 0 for figure in report["figures"])
    assert len(report["figures"]) == len(cases) * 9
    assert done.stdout.count("target: ") == len(cases) * 2

"""The soak at a size where only its workings matter: rows counted, figures told, growth found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import soak
from tests.engines import prism
from tests.engines.tools import ToolMissing

PROJECT = Path(__file__).resolve().parents[1]
SECONDS, RATE = 30, 50


@pytest.mark.benchmarks
def test_gives_each_row_back_once_and_watches_the_whole_time(tmp_path):
    try:
        prism.build()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.soak", "--engine=prism", f"--seconds={SECONDS}", f"--rate={RATE}"]
    command += ["--window=3", "--warm-up=20", f"--json={figures}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=200, check=False)
    assert figures.exists(), done.stderr[-4000:]
    report = json.loads(figures.read_text())
    counters = report["counters"]
    each = {name: counters.get(name, 0) for name in ("rows_in", "rows_out", "rows_of_ended_windows", "rows_lost")}
    rows = SECONDS * RATE
    assert each == {"rows_in": rows, "rows_out": rows, "rows_of_ended_windows": rows, "rows_lost": 0}, counters
    assert counters["runs"] >= SECONDS / 3
    assert counters["process_starts"] <= 2 * soak.SHARDS + 1
    assert len([sample for sample in report["samples"] if sample["at_s"] <= SECONDS]) >= 0.8 * SECONDS
    last = report["samples"][SECONDS - 5]
    assert last["pipeline_mib"] > 50 and last["script_mib"] > 50 and last["processes"] >= 1
    for growth in report["growths"]:
        assert growth["name"] in done.stdout


def samples(**grows_by):
    """Ten minutes of what changes by so much a minute."""
    fixed = {"pipeline_mib": 250.0, "pipeline_descriptors": 30.0, "pipeline_threads": 30.0}
    fixed |= {"script_mib": 700.0, "script_descriptors": 4.0, "script_threads": 14.0, "processes": 4.0}
    return [
        soak.Sample(at_s, **{name: value + grows_by.get(name, 0) * at_s / 60 for name, value in fixed.items()})
        for at_s in range(600)
    ]


@pytest.mark.parametrize("name", soak.SLACK)
def test_finds_what_grows_and_nothing_else(name):
    found = soak.growths(samples(**{name: 2 * soak.SLACK[name] + 1}), warm_up_s=60)
    assert [growth.name for growth in found if not growth.is_flat] == [name]
    assert f"GROWS by more than {soak.SLACK[name]:g}" in soak.format_report(samples(), found, {"rows_in": 3})


def test_growth_before_the_warm_up_is_over_doesnt_count():
    grown = [*samples(processes=10)[:60], *samples()[60:]]
    assert all(growth.is_flat for growth in soak.growths(grown, warm_up_s=60))


def test_rejects_a_time_that_is_over_before_it_is_watched():
    with pytest.raises(ValueError, match="too few to compare"):
        soak.growths(samples()[:62], warm_up_s=60)

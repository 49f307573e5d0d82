"""Outputs of each feed when a run fails and is repeated: inside the bundle, or by the runner with the bundle."""

from __future__ import annotations

import pytest
from apache_beam.transforms.window import FixedWindows

from tests.running import Runner
from tests.without_tensorflow import InBundles, blocked, ids, run_of

FEEDS = pytest.mark.parametrize(
    ("feed", "replay"), [("dataset", None), ("bundles", None), ("stream", True), ("stream", False)]
)
IDS = [row["id"] for row in ids(60)]


@pytest.fixture
def failing(tmp_path):
    """A transform whose script fails while it has row 30, so many times."""

    def make(feed, times, how, **arguments):
        params = {"at": "30", "times": times, "marks": str(tmp_path / "marks"), "how": how, "n": 8}
        return run_of("echo_all", feed, params=params, env=blocked(tmp_path), **arguments)

    return make


def check(feed, rows, *, replay=False):
    """Each row once; where a window is replayed, at least once."""
    found = sorted((row["id"] for row in rows), key=int)
    if replay:
        assert set(found) == set(IDS)
    else:
        assert found == IDS


@pytest.mark.parametrize("how", ["kill", "raise"])
@pytest.mark.parametrize(
    ("feed", "replay"), [("dataset", None), ("bundles", None), ("stream", True), ("stream", False)]
)
def test_run_that_fails_is_repeated_inside_the_bundle(in_memory, failing, feed, replay, how):
    rows = in_memory.run(failing(feed, 2, how, max_attempts=3, replay=replay), ids(60))
    check(feed, rows, replay=replay)
    assert in_memory.metrics["runs_failed"] == 2
    assert in_memory.metrics.get("process_deaths", 0) == (2 if how == "kill" else 0)


@pytest.mark.parametrize("how", ["kill", "raise"])
@pytest.mark.parametrize(
    ("feed", "replay"), [("dataset", None), ("bundles", None), ("stream", True), ("stream", False)]
)
def test_bundle_that_the_runner_repeats_gives_its_rows_once(tmp_path, failing, caplog, monkeypatch, feed, replay, how):
    monkeypatch.setattr("beam_tfscript.worker.pool.IDLE_TIMEOUT_S", 4.0)
    transform = failing(feed, 1, how, max_attempts=1, replay=replay)
    outputs = Runner("bundle_based", tmp_path).outputs(
        InBundles(transform, [ids(20), ids(20, start=20), ids(20, start=40)], window=FixedWindows(100)),
        options=["--streaming"],
    )  # fmt: skip
    assert "Exception at bundle" in caplog.text
    check(feed, [output.row for output in outputs["good"]], replay=replay)

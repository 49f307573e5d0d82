"""Scripts that fork: their children never reach the pipeline, and no row is lost, doubled or given to another run."""

from __future__ import annotations

import pytest

from tests.test_faults import wait_until
from tests.without_tensorflow import blocked, ids, run_of

FEEDS = ("dataset", "bundles", "stream")


@pytest.fixture
def no_tensorflow(tmp_path):
    return blocked(tmp_path)


def run_twice(in_memory, tmp_path, entry, feed, how, *, n=30):
    """Two runs, one after the other on the same process where that may be; returns their ids and the script's marks."""
    told = tmp_path / "told"
    params = {"how": how, "told": str(told)}
    keywords = {} if feed == "bundles" else {"num_workers": 2, "max_processes": 1}
    transform = run_of(entry, feed, params=params, env=blocked(tmp_path), **keywords)
    rows = in_memory.run(transform, ids(n))
    return sorted(int(row["id"]) for row in rows), told.read_text() if told.exists() else ""


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(("how", "status"), [("sys.exit", 0), ("sys.exit(3)", 3), ("returns", 0), ("raises", 1)])
def test_child_that_ends_as_a_script_ends_takes_no_row_along(in_memory, tmp_path, feed, how, status):
    found, marks = run_twice(in_memory, tmp_path, "forks", feed, how)
    assert found == list(range(30))
    assert f"child ended with {status}" in marks and marks.count("child ended") == marks.count(f"with {status}")


@pytest.mark.parametrize(
    ("feed", "how"),
    [
        *((feed, how) for feed in FEEDS for how in ("writes", "flushes", "counts")),
        ("bundles", "reads"), ("stream", "reads"), ("bundles", "stops"), ("stream", "stops"),
    ],
)  # fmt: skip
def test_child_that_uses_the_config_gets_an_error_of_its_own(in_memory, tmp_path, caplog, feed, how):
    found, marks = run_twice(in_memory, tmp_path, "forks", feed, how)
    assert found == list(range(30))
    assert "child ended with 1" in marks and "child ended with 0" not in marks
    assert "in a forked child of the script" in caplog.text and "children" not in in_memory.metrics


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_script_that_loads_data_by_a_pool_just_works(in_memory, tmp_path, feed, how):
    found, _ = run_twice(in_memory, tmp_path, "uses_a_pool", feed, how)
    assert found == list(range(30))


@pytest.mark.parametrize("feed", ["bundles", "stream"])
def test_child_that_is_left_behind_ends_with_its_parent(in_memory, tmp_path, no_tensorflow, feed):
    told = tmp_path / "told"
    transform = run_of("leaves_a_child", feed, params={"told": str(told)}, env=no_tensorflow)
    assert len(in_memory.run(transform, ids(30))) == 30
    wait_until(lambda: "child" in told.read_text(), 10)

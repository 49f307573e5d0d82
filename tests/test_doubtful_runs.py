"""Runs that end well and give no rows: the log warns of a likely mistake, and not of a filter."""

from __future__ import annotations

import logging

import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.__main__ import main
from beam_tfscript.worker.pool import get_pool
from tests.without_tensorflow import blocked, ids

FEEDS = ["dataset", "bundles", "stream"]
# Reads all rows without TensorFlow, whatever the feed.
READ = """
def read(config):
    if config.feed is None:
        return open(config.dataset_file, "rb").read()
    return [record for records in config.example_batches(4) for record in records]

"""


def warnings_of(runner, tmp_path, caplog, feed, text, *, level=logging.WARNING, rows=20, **arguments):
    """Run a script over some rows, and return its messages in the log of one level."""
    (tmp_path / "score.py").write_text(READ + text)
    arguments = {"output_schema": "id string", "input_schema": "id string", **arguments}
    transform = RunTFScript(str(tmp_path / "score.py"), feed=feed, env=blocked(tmp_path), **arguments)
    with caplog.at_level(logging.INFO, logger="beam_tfscript"):
        runner.run(transform, ids(rows))
        get_pool().shutdown()  # in `bundles` main returns when its process is ended
    records = [record for record in caplog.records if record.name == "beam_tfscript.feeds.run"]
    return [record.getMessage() for record in records if record.levelno == level and "waiting" not in record.msg]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(("value", "shown"), [("[{'id': 1}]", "a list"), ("{'id': rows}", "a dict")])
def test_rows_that_are_returned_in_place_of_written_are_told(in_memory, tmp_path, caplog, feed, value, shown):
    text = f"def main(config):\n    rows = read(config)\n    return {value}\n"
    (said,) = warnings_of(in_memory, tmp_path, caplog, feed, text)
    assert "score.py" in said and f"20 rows in, 0 written; main returned {shown}, which is ignored: write" in said
    assert in_memory.metrics.get("runs_doubtful") == (None if feed == "bundles" else 1)


@pytest.mark.parametrize(
    ("body", "how"), [("import sys; sys.exit(0)", "main called sys.exit()"), ("return", "main returned")]
)
def test_run_that_ends_before_it_has_read_a_row_is_told(in_memory, tmp_path, caplog, body, how):
    (said,) = warnings_of(in_memory, tmp_path, caplog, "dataset", f"def main(config):\n    {body}\n")
    assert f"20 rows in, 0 written; {how} and had read no rows." in said


def test_rows_that_are_read_by_way_of_another_platforms_config_are_read(in_memory, tmp_path, caplog):
    text = "def main(config):\n    from akdl.runner.config import BatchTaskConfig\n"
    text += "    BatchTaskConfig(**config.__dict__).dataset_file\n"
    assert not warnings_of(in_memory, tmp_path, caplog, "dataset", text)


@pytest.mark.parametrize("feed", ["bundles", "stream"])
def test_second_loop_over_a_feed_that_has_ended_is_told(in_memory, tmp_path, caplog, feed):
    text = "def main(config):\n    read(config)\n    for record in read(config):\n        config.write(id='x')\n"
    (said,) = warnings_of(in_memory, tmp_path, caplog, feed, text)
    assert "a loop over the rows began after the feed had ended, and got none" in said


@pytest.mark.parametrize("feed", FEEDS)
def test_filter_that_lets_no_row_through_is_no_mistake(in_memory, tmp_path, caplog, feed):
    text = "def main(config):\n    read(config)\n    return 0\n"
    (said, *_) = warnings_of(in_memory, tmp_path, caplog, feed, text, level=logging.INFO)
    assert said.endswith("20 rows in, 0 written.")
    caplog.clear()
    assert not warnings_of(in_memory, tmp_path, caplog, feed, text)
    assert "runs_doubtful" not in in_memory.metrics


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("def main(config):\n    read(config)\n    config.write(id='x')\n    return {'loss': 1}\n", {}),
        ("def main(config):\n    read(config)\n    return [1]\n", {"output_schema": None}),
        ("def main(config):\n    read(config)\n    return [1]\n", {"rows": 0}),
    ],
    ids=["rows are written", "no rows are asked for", "no rows come"],
)
def test_nothing_is_said_of_what_is_right(in_memory, tmp_path, caplog, feed, text, arguments):
    assert not warnings_of(in_memory, tmp_path, caplog, feed, text, **arguments)


@pytest.mark.parametrize("feed", FEEDS)
def test_check_shows_it(tmp_path, capsys, feed):
    (tmp_path / "score.py").write_text(READ + "def main(config):\n    return [read(config)]\n")
    (tmp_path / "rows.csv").write_text("id\n" + "a\n" * 5)
    ((name, value),) = blocked(tmp_path).items()
    flags = ["--data", str(tmp_path / "rows.csv"), "--output-schema", "id string", "--env", f"{name}={value}"]
    assert main(["check", str(tmp_path / "score.py"), f"--feed={feed}", *flags]) == 0
    assert "5 rows in, 0 written; main returned a list, which is ignored" in capsys.readouterr().out

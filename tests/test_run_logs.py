"""Files that scripts write to `config.log_dir`: kept in `log_dir`, in every feed, however the run ends."""

from __future__ import annotations

import logging
import os
import pathlib
import re

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.errors import ArgumentError
from beam_tfscript.worker.pool import get_pool
from tests import memory_file_system
from tests.memory_file_system import MEMORY
from tests.training import train
from tests.without_tensorflow import blocked, ids

FEEDS = ["dataset", "bundles", "stream"]
WRITES = """
import os

def main(config):
    os.makedirs(os.path.join(config.log_dir, "train"))
    with open(os.path.join(config.log_dir, "train", "events"), "w") as file:
        file.write("loss")
    if config.user_params:
        raise ValueError("as asked for")
    rows = [] if config.feed is None else [row for rows in config.example_batches(4) for row in rows]
"""
TIME = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-[0-9a-f]{6}"


@pytest.fixture
def memory(monkeypatch):
    """Contents of the files of the in-memory file system, by path."""
    fresh = memory_file_system.Memory()
    monkeypatch.setattr(MEMORY, "files", fresh.files)
    return fresh.files


def run(runner, tmp_path, feed, text=WRITES, before=None, **arguments):
    (tmp_path / "score.py").write_text(text)
    transform = RunTFScript(
        str(tmp_path / "score.py"), input_schema="id string", feed=feed, env=blocked(tmp_path),
        **{"max_attempts": 1, **arguments},
    )  # fmt: skip
    try:
        runner.run(transform, ids(4), before=before)
    finally:
        get_pool().shutdown()  # in `bundles` a run ends with its process


def files_in(directory) -> list[str]:
    """Return the paths of a directory's files, relative to the directory."""
    return sorted(str(path.relative_to(directory)) for path in pathlib.Path(directory).rglob("*") if path.is_file())


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "beam_tfscript.feeds.run_logs"]


@pytest.mark.parametrize("feed", FEEDS)
def test_local_directory_keeps_the_logs_of_each_run(in_memory, tmp_path, caplog, feed):
    run(in_memory, tmp_path, feed, log_dir=str(tmp_path / "logs"))
    (found,) = files_in(tmp_path / "logs")
    assert re.fullmatch(rf"{TIME}{'' if feed == 'bundles' else '-shard-0'}-attempt-1/train/events", found)
    assert not warnings(caplog)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("scheme", ["memdirs", "memkeys"])
def test_logs_are_copied_to_any_file_system_when_the_run_ends(in_memory, tmp_path, memory, scheme, feed):
    run(in_memory, tmp_path, feed, log_dir=f"{scheme}://logs/score/")
    ((path, content),) = [(path, content) for path, content in memory.items() if path.endswith("events")]
    assert re.fullmatch(rf"{scheme}://logs/score/{TIME}[a-z0-9-]*-attempt-1/train/events", path) and content == b"loss"


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("where", ["memkeys://logs", "local"])
def test_logs_of_each_failed_attempt_are_kept(in_memory, tmp_path, memory, feed, where):
    log_dir = str(tmp_path / "logs") if where == "local" else where
    with pytest.raises(Exception, match="as asked for"):
        run(in_memory, tmp_path, feed, log_dir=log_dir, user_params={"fails": True}, max_attempts=2)
    found = files_in(log_dir) if where == "local" else list(memory)
    assert sorted(re.findall(r"attempt-\d/train/events", " ".join(found))) == [
        "attempt-1/train/events", "attempt-2/train/events",
    ]  # fmt: skip


@pytest.mark.parametrize("feed", ["dataset", "stream"])
def test_windows_shards_and_tasks_of_clusters_are_told_apart(in_memory, tmp_path, feed):
    def windows(rows):
        return rows | beam.Map(lambda row: TimestampedValue(row, int(row["id"]))) | beam.WindowInto(FixedWindows(2))

    run(in_memory, tmp_path, feed, before=windows, log_dir=str(tmp_path / "a"), num_workers=2)
    window = r"1970-01-01T00-00-0(\d)Z--1970-01-01T00-00-0\dZ-shard-(\d)-attempt-1/train/events"
    assert sorted(re.findall(window, "\n".join(files_in(tmp_path / "a")))) == [
        ("0", "0"), ("0", "1"), ("2", "0"), ("2", "1"),
    ]  # fmt: skip
    run(in_memory, tmp_path, feed, log_dir=str(tmp_path / "b"), num_workers=2, placement="one_host")
    found = files_in(tmp_path / "b")
    assert len({path.partition("/")[0] for path in found}) == 1
    assert [path.split("/", 1)[1] for path in found] == ["chief-0/train/events", "worker-0/train/events"]


@pytest.mark.parametrize("feed", FEEDS)
def test_logs_that_are_not_kept_cause_a_warning(in_memory, tmp_path, caplog, feed):
    run(in_memory, tmp_path, feed)
    (warning,) = warnings(caplog)
    assert "score.py" in warning and "wrote 1 files to config.log_dir, which go with the run: give log_dir=" in warning


@pytest.mark.parametrize("feed", FEEDS)
def test_run_that_writes_no_logs_leaves_no_directory_and_no_warning(in_memory, tmp_path, caplog, feed):
    text = "def main(config):\n    rows = [] if config.feed is None else list(config.example_batches(9))\n"
    run(in_memory, tmp_path, feed, text, log_dir=str(tmp_path / "logs"))
    run(in_memory, tmp_path, feed, text)
    assert not (tmp_path / "logs").exists() and not warnings(caplog)


def test_failed_copy_is_a_warning_and_fails_no_run(in_memory, tmp_path, caplog, memory, monkeypatch):
    def refuse(self, path, *more):
        raise OSError(28, "no room")

    monkeypatch.setattr(memory_file_system.KeysFileSystem, "create", refuse)
    with caplog.at_level(logging.WARNING):
        run(in_memory, tmp_path, "dataset", log_dir="memkeys://logs")
    (warning,) = warnings(caplog)
    assert "its logs cannot be copied to memkeys://logs/" in warning and "no room" in warning


@pytest.mark.parametrize(
    ("value", "message"),
    [("nowhere://logs", "no file system is known for 'nowhere://logs'"), ("", "must be a path"), (3, "must be a path")],
)
def test_directory_that_cannot_be_used_is_refused(tmp_path, value, message):
    (tmp_path / "score.py").write_text(WRITES)
    for transform in (RunTFScript, lambda script, **more: TrainTFScript(script, None, **more)):
        with pytest.raises(ArgumentError, match=message):
            transform(str(tmp_path / "score.py"), log_dir=value)


@pytest.mark.tensorflow
def test_tensorboards_callback_of_a_training_logs_beside_the_model(in_memory, tmp_path):
    row = train(in_memory, "train_logs.py", tmp_path / "models", "main")
    assert row["version"] == 1
    assert sorted(os.listdir(tmp_path / "models")) == [".publishing", "1", "logs"]
    (found,) = files_in(tmp_path / "models" / "logs")
    assert re.fullmatch(rf"{TIME}-attempt-1/train/events.out.tfevents.*", found)
    # Logs are no version: the next model is the second.
    assert train(in_memory, "train_logs.py", tmp_path / "models", "main")["version"] == 2

"""mypy and pyright on a user's files: they find a planted mistake, and nothing where there is none."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("mypy")
pytest.importorskip("pyright")

PIPELINE = """
import apache_beam as beam
from beam_tfscript import ReadExamples, RunTFScript, TFScriptError, TrainTFScript, WriteParquet

score = RunTFScript(main_script_file="score.py", output_schema="id string", num_workers=2)
train = TrainTFScript(main_script_file="train.py", model_dir="models")
good: type[Exception] = TFScriptError
read = ReadExamples("rows-*.tfrecord", validate=False)
write = WriteParquet("out/rows", "id string", num_shards=3)
"""
SCRIPT = """
from beam_tfscript.runtime import Config, StreamTrainConfig, TrainConfig


def main(config: Config) -> None:
    for batch in config.batches(512):
        config.write_batch(id=batch["id"])
    config.counter("rows").inc(3)


def train(config: TrainConfig) -> None:
    print(config.saved_model_dir + "/x", config.dataset_length + 1)
    config.report(loss=0.5)


def train_on(config: StreamTrainConfig) -> None:
    config.export()
"""
MISTAKES = {
    "pipeline.py": [
        ("num_workers=2", "num_wrkers=2"),
        ("num_workers=2", 'num_workers="2"'),
        ("num_shards=3", "shards=3"),
    ],
    "score.py": [
        ("config.batches(512)", "config.batchs(512)"),
        ("config.batches(512)", 'config.batches("512")'),
        ("config.dataset_length + 1", "config.dataset_lenght + 1"),
        ("config.export()", "config.export(1)"),
    ],
}
CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-calls", "--cache-dir=/dev/null"],
    "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_mistakes_are_found(work, checker):
    """All files at once, as most of the time goes to Beam's own."""
    good = {"pipeline.py": PIPELINE, "score.py": SCRIPT}
    bad = {}
    for name, mistakes in MISTAKES.items():
        for number, (right, wrong) in enumerate(mistakes):
            bad[f"wrong{number}_{name}"] = good[name].replace(right, wrong, 1)
    for name, text in {**good, **bad}.items():
        (work / name).write_text(text)
    done = subprocess.run([*CHECKERS[checker], *good, *bad], cwd=work, capture_output=True, text=True, timeout=300)
    errors = [line for line in done.stdout.splitlines() if "error:" in line or "- error" in line]
    for name in good:
        assert not [line for line in errors if f"/{name}:" in f"/{line.strip()}"], done.stdout + done.stderr
    for name in bad:
        assert [line for line in errors if name in line], f"{bad[name]}: {done.stdout}"

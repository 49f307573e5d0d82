"""Runs in an environment that has the wheel and no checkout: where the checkout is, for its README, and a script."""

from __future__ import annotations

import os
import pathlib
import time

import pytest

SCORE = """
def main(config):
    for batch in config.batches(512):
        config.write_batch(id=batch["id"], score=batch["x"] * 2)
"""


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """A directory of the test's own, with a script; what is started is started there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "score.py").write_text(SCORE)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    yield tmp_path
    # A notebook's kernel may be killed; the guardian of its worker cleans up then.
    deadline = time.monotonic() + 15
    while left := [name for name in os.listdir(scratch) if name.startswith("beam_tfscript")]:
        assert time.monotonic() < deadline, f"scratch directories are left: {left}"
        time.sleep(0.1)


@pytest.fixture
def without_tensorflow(tmp_path):
    """Environment variables of scripts that find no TensorFlow, and so start in a tenth of a second."""
    package = tmp_path / "blocked" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not here')\n")
    return {"PYTHONPATH": str(package.parent)}


@pytest.fixture
def checkout():
    """The directory of README and docs."""
    return pathlib.Path(os.environ["BEAM_TFSCRIPT_CHECKOUT"])

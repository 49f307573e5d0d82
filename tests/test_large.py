"""A shard and a bundle of 2 GiB: all rows read, and no process larger for it than without (`make test-large`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from benchmarks import memory

pytestmark = pytest.mark.tensorflow

# The in-memory runner alone holds a key's group at more than four times its size.
NEEDED_GIB = 14


@pytest.mark.large
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("feed", ["dataset", "bundles", "files"])
def test_2_gib_add_little_to_any_process(tmp_path, feed):
    available = psutil.virtual_memory().available / 2**30
    if available < NEEDED_GIB:
        pytest.skip(f"needs {NEEDED_GIB} GiB of free memory, this machine has {available:.0f}")
    result = tmp_path / "figures.json"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # It fails by itself where a row is missing.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.memory",
            "--gib=2",
            f"--feed={feed}",
            f"--json={result}",
            f"--work-dir={tmp_path}",
        ],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = memory.Figures(**json.loads(result.read_text()))
    assert figures.pipeline_added_mib <= memory.PIPELINE_TARGET_MIB, done.stdout
    assert figures.script_added_mib <= memory.SCRIPT_TARGET_MIB, done.stdout

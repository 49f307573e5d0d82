"""Processes that end between runs: after a number of runs, or when they have too much memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from beam_tfscript import RunTFScript
from beam_tfscript.errors import ArgumentError
from beam_tfscript.worker.activity import resident_bytes
from tests.device_harness import device_run
from tests.running import Runner, script
from tests.without_tensorflow import InBundles, ids

MIB = 1 << 20


def pids(rows):
    return [row["pid"] for row in sorted(rows, key=lambda row: row["began"])]


@pytest.mark.parametrize(("max_runs", "processes"), [(None, 1), (1, 6), (2, 3), (6, 1)])
def test_process_ends_after_its_runs(in_memory, tmp_path, max_runs, processes):
    rows = in_memory.run(device_run("tells", tmp_path, num_workers=6, max_processes=1, max_runs=max_runs))
    assert len(rows) == 6 and len(set(pids(rows))) == processes
    assert in_memory.metrics["process_starts"] == processes
    assert in_memory.metrics.get("recycled_by_max_runs", 0) == (6 // max_runs if max_runs else 0)
    assert "process_deaths" not in in_memory.metrics


def test_process_ends_when_its_memory_has_grown(in_memory, tmp_path, caplog):
    grown, limit = 100 * MIB, 250 * MIB
    transform = device_run(
        "grows", tmp_path, num_workers=6, max_processes=1, max_rss_bytes=limit, user_params={"bytes": grown}
    )
    found = pids(in_memory.run(transform))
    # An interpreter has some 20 MiB: the third run goes over the limit.
    assert len(set(found)) == 2 and found[0] == found[2] != found[3] == found[5]
    assert in_memory.metrics["recycled_by_max_rss_bytes"] == 2
    (told, _) = re.findall(
        r"devices.py: process (\d+) ends, as it has 3\d\d MiB .* max_rss_bytes=\d+ \(250 MiB\)", caplog.text
    )
    assert int(told) == found[0]


@pytest.mark.parametrize("entry", ["grows_each_batch", "grows_in_a_child"])
def test_memory_is_looked_at_after_each_bundle(tmp_path, entry):
    """The run ends in order: it has done all rows."""
    runner = Runner("bundle_based", tmp_path)
    transform = device_run(
        entry, tmp_path, feed="bundles", max_processes=1, max_rss_bytes=150 * MIB, user_params={"bytes": 100 * MIB},
        input_schema="id string",
    )  # fmt: skip
    found = pids(runner.run(InBundles(transform, [ids(5, start=5 * i) for i in range(4)])))
    assert len(found) == 4 and found[0] == found[1] != found[2] == found[3]


def test_process_that_ends_after_its_bundle_is_counted(in_memory, tmp_path):
    transform = device_run(
        "grows_each_batch", tmp_path, feed="bundles", max_rss_bytes=50 * MIB, user_params={"bytes": 100 * MIB},
        input_schema="id string",
    )  # fmt: skip
    assert len(in_memory.run(transform, ids(5))) == 1
    assert in_memory.metrics["recycled_by_max_rss_bytes"] == 1


def test_run_of_a_stream_ends_before_its_process_does(in_memory, tmp_path):
    transform = device_run(
        "tells_each_batch",
        tmp_path,
        feed="stream",
        num_workers=3,
        max_runs=1,
        max_processes=1,
        input_schema="id string",
    )
    rows = in_memory.run(transform, ids(30))
    assert len({row["pid"] for row in rows}) == 3
    assert in_memory.metrics["recycled_by_max_runs"] == 3


def test_process_with_fewer_runs_left_is_not_given_to_a_transform_with_a_lower_limit(in_memory, tmp_path):
    """Transforms share idle processes; each keeps to its own limit."""
    import apache_beam as beam

    first = device_run("tells", tmp_path, num_workers=3, max_processes=1, input_schema="id string")
    second = device_run("tells", tmp_path, max_runs=3, max_processes=1, input_schema="id string")
    third = device_run("tells", tmp_path, max_runs=9, max_processes=1, input_schema="id string")

    class InTurn(beam.PTransform):
        def expand(self, rows):
            outputs, stages = [], {"First": first, "Second": second, "Third": third}
            for name, transform in stages.items():
                told = rows | name >> transform
                rows = told | f"After {name}" >> beam.Map(lambda row: {"id": str(row.pid)}).with_output_types(dict)
                outputs.append(
                    told | f"Name {name}" >> beam.Map(lambda row, name=name: {**row._asdict(), "from": name})
                )
            return outputs | beam.Flatten()

    by_stage = {}
    for row in in_memory.run(InTurn(), ids(30)):
        by_stage.setdefault(row["from"], set()).add(row["pid"])
    assert len(by_stage["First"]) == 1 and by_stage["First"].isdisjoint(by_stage["Second"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_runs": 0}, "max_runs must be a whole number of at least 1, got 0"),
        ({"max_runs": 1.5}, "max_runs must be a whole number"),
        ({"max_runs": 3, "feed": "bundles"}, 'max_runs has no meaning in feed="bundles": leave it out.*max_rss_bytes'),
        ({"max_rss_bytes": 4000}, "max_rss_bytes must be a whole number of at least 1048576, got 4000"),
        ({"accelerators_per_process": -1}, "accelerators_per_process must be a whole number, or a fraction between"),
        ({"accelerators_per_process": 1.5}, "fraction between 0.01 and 1, got 1.5"),
        ({"accelerators_per_process": 0.001}, "got 0.001"),
        ({"accelerators_per_process": True}, "got True"),
        ({"accelerators_per_process": "all"}, "got 'all'"),
        ({"accelerators_per_process": float("nan")}, "got nan"),
        ({"accelerators_per_process": float("inf")}, "got inf"),
        (
            {"accelerators_per_process": 1, "env": {"CUDA_VISIBLE_DEVICES": "0"}},
            "env has CUDA_VISIBLE_DEVICES, and accelerators_per_process sets",
        ),
    ],
)
def test_arguments_are_checked_while_the_pipeline_is_built(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        RunTFScript(script("devices.py"), entry="tells", **arguments)


@pytest.mark.parametrize(("given", "kept"), [(2, 2), (2.0, 2), (0, 0), (0.25, 0.25), (None, None)])
def test_number_of_accelerators_is_kept_as_it_is_meant(given, kept):
    options = RunTFScript(script("devices.py"), entry="tells", accelerators_per_process=given)._options
    assert options.accelerators_per_process == kept and type(options.accelerators_per_process) is type(kept)


def test_memory_counts_children_of_the_session():
    code = "import os, sys, time; hoard = os.urandom(50 << 20); print(1, flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    try:
        process.stdout.readline()
        assert 60 * MIB < resident_bytes(process.pid) < 150 * MIB
        assert resident_bytes(os.getpid()) < 60 * MIB or os.getsid(0) == os.getpid()
    finally:
        os.killpg(process.pid, 9)
        process.communicate()

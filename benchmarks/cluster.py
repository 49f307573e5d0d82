"""Time to form a cluster on one machine: RunTFScript beside a loop that starts the same tasks by hand.

Options of the command line in. Out, for each number of tasks: seconds until all tasks have met, seconds until the last
task has imported TensorFlow, and the difference, which is the time to form the cluster. Both start the same script,
with one thread per task, one after the other; the best of some runs counts. `--json FILE` writes the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence

import apache_beam as beam

from beam_tfscript import RunTFScript

SCRIPT = pathlib.Path(__file__).parent / "scripts" / "meet.py"
# Sixteen imports of TensorFlow on two cores take far less.
_TIMEOUT_S = 600


class _Keep(beam.DoFn):
    def __init__(self, directory: str):
        self._directory = directory

    def process(self, row):
        descriptor, _ = tempfile.mkstemp(dir=self._directory)
        with open(descriptor, "wb") as file:
            pickle.dump(row._asdict(), file)


def form_in_pipeline(tasks: int, directory: str) -> list[dict]:
    """Run the script as a cluster of a pipeline; return each task's figures."""
    pipeline = beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    _ = (
        pipeline
        | RunTFScript(
            str(SCRIPT), "imported_at string, met_at string, tasks int", placement="one_host", num_workers=tasks,
            intra_op_parallelism=1, start_timeout=_TIMEOUT_S,
        )
        | beam.ParDo(_Keep(directory))
    )  # fmt: skip
    pipeline.run().wait_until_finish()
    return [pickle.loads(path.read_bytes()) for path in pathlib.Path(directory).iterdir()]


def form_by_hand(tasks: int, directory: str) -> list[dict]:
    """Start the script in a loop, with TF_CONFIG set by hand; return each task's figures."""
    workers = [f"localhost:{port}" for port in _free_ports(tasks)]
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = []
    for index in range(tasks):
        tf_config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environ = {**os.environ, **threads, "no_proxy": "localhost", "TF_CONFIG": json.dumps(tf_config)}
        command = [sys.executable, str(SCRIPT), os.path.join(directory, str(index))]
        started.append(subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL))
    try:
        for process in started:
            if process.wait(_TIMEOUT_S):
                raise RuntimeError(f"a task of the loop ended with exit status {process.returncode}")
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [json.loads(path.read_text()) for path in pathlib.Path(directory).iterdir()]


def measure(form, tasks: int) -> dict[str, float]:
    """Measure one cluster: seconds until all tasks have met, until all have imported TensorFlow, and the difference."""
    with tempfile.TemporaryDirectory() as directory:
        begin = time.time()
        times = form(tasks, directory)
    assert len(times) == tasks and all(task["tasks"] == tasks for task in times), times
    imported = max(float(task["imported_at"]) for task in times) - begin
    met = max(float(task["met_at"]) for task in times) - begin
    return {"met_s": met, "import_s": imported, "form_s": met - imported}


def best(form, tasks: int, repeats: int) -> dict[str, float]:
    """Return the figures of the run that formed its cluster in the least time."""
    return min((measure(form, tasks) for _ in range(repeats)), key=lambda figure: figure["form_s"])


def _free_ports(count: int) -> Iterable[int]:
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    for one in sockets:
        yield one.getsockname()[1]
        one.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8, 16], help="sizes of the clusters")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, of which the best counts")
    parser.add_argument("--json", metavar="FILE", help="file to write the figures to")
    options = parser.parse_args(arguments)
    print(f"seconds, on {os.cpu_count()} cores")
    print(f"{'':6}{'RunTFScript, one_host':>30}{'started in a loop':>30}")
    print(f"{'tasks':6}" + 2 * f"{'met':>12}{'import':>9}{'form':>9}")
    figures = []
    for tasks in options.tasks:
        figure = {
            "tasks": tasks,
            "pipeline": best(form_in_pipeline, tasks, options.repeats),
            "loop": best(form_by_hand, tasks, options.repeats),
        }
        figures.append(figure)
        both = [figure["pipeline"], figure["loop"]]
        cells = "".join(f"{one['met_s']:12.1f}{one['import_s']:9.1f}{one['form_s']:9.2f}" for one in both)
        print(f"{tasks:<6}{cells}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()

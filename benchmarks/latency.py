"""Time from a row to its output in bundles of one row: RunTFScript's feed="bundles" beside Beam's RunInference.

Their DoFns are called directly, bundle by bundle and without an engine, whose own time would hide theirs. RunTFScript's
rows go to another process and back. The script reports its own time; the rest is the time that this project adds.
RunInference calls the same model in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from benchmarks import workload
from benchmarks.contenders import SCRIPTS

# The first bundles start processes, trace graphs and fill caches.
WARM_UP_BUNDLES = 50
TARGETS_MS = {"p50": 5.0, "p99": 25.0}


def drive(rows: Iterator[bytes], infer: Callable[[bytes], Any], *, count: int, rate: float) -> list[tuple[float, Any]]:
    """Pass one row at a time, at a steady rate.

    Args:
      rows: serialized Examples.
      infer: function that takes one row as a bundle, and returns its output.
      count: number of rows that are measured.
      rate: rows per second.

    Returns:
      (milliseconds, output) of each measured row.
    """
    for _ in range(WARM_UP_BUNDLES):
        infer(next(rows))
    taken = []
    due = time.perf_counter()
    for _ in range(count):
        time.sleep(max(0.0, due - time.perf_counter()))
        due += 1 / rate
        row = next(rows)
        begin = time.perf_counter()
        output = infer(row)
        taken.append((1000 * (time.perf_counter() - begin), output))
    return taken


def measure_tfscript(rows: Iterator[bytes], model: str, *, count: int, rate: float) -> dict[str, list[float]]:
    """Measure RunTFScript: milliseconds in all, of the script itself, and the difference."""
    from beam_tfscript import RunTFScript
    from beam_tfscript.dofns.run_bundles import RunBundles
    from beam_tfscript.transforms.input_plan import plan_input

    transform = RunTFScript(
        os.path.join(SCRIPTS, "time_batches.py"),
        "id string, score float, own_ms float",
        input_schema=workload.INPUT_SCHEMA,
        feed="bundles",
        user_params={"model": model},
        intra_op_parallelism=0,
    )
    schema, encoder = plan_input(bytes, transform._options.input_schema)
    options = transform._options.resolve("bundles", schema)
    dofn = RunBundles(options, encoder, None)
    dofn.setup()

    def infer(row: bytes) -> Any:
        dofn.start_bundle()
        outputs = list(dofn.process(row, WindowedValue(row, 0, (GlobalWindow(),))))
        outputs += dofn.finish_bundle()
        (output,) = outputs
        return output.value

    try:
        taken = drive(rows, infer, count=count, rate=rate)
    finally:
        dofn.teardown()
    own = [row.own_ms for _, row in taken]
    whole = [spent for spent, _ in taken]
    return {"whole": whole, "script": own, "added": [all_ - part for all_, part in zip(whole, own)]}


def measure_inference(rows: Iterator[bytes], model: str, *, count: int, rate: float) -> dict[str, list[float]]:
    """Measure RunInference with the tuned handler: milliseconds in all."""
    from apache_beam.ml.inference.base import _RunInferenceDoFn

    from benchmarks.tuned_handler import CompiledHandler

    dofn = _RunInferenceDoFn(CompiledHandler(model, batch_size=1), time, "benchmark")
    dofn.setup()

    def infer(row: bytes) -> Any:
        (output,) = dofn.process([row], None, None)
        dofn.finish_bundle()
        return output

    return {"whole": [spent for spent, _ in drive(rows, infer, count=count, rate=rate)]}


def summarize(values: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    return {"p50": statistics.median(values), "p99": statistics.quantiles(values, n=100)[98]}


def read_rows(path: str) -> Iterator[bytes]:
    """Yield the rows of the file, repeatedly."""
    from beam_tfscript.data import tfrecord

    rows = tfrecord.read(path)
    while True:
        yield from rows


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="number of measured bundles (%(default)s)")
    parser.add_argument("--rate", type=float, default=100.0, help="bundles per second (%(default)s)")
    parser.add_argument("--json", help="file to write the figures to")
    parser.add_argument("--work-dir", default=os.path.join(tempfile.gettempdir(), "beam-tfscript-benchmarks"))
    options = parser.parse_args(argv)
    os.makedirs(options.work_dir, exist_ok=True)
    examples = workload.make_rows(options.work_dir, 1000)
    model, _ = workload.make_model(options.work_dir, heavy=False)
    figures: dict[str, dict[str, float]] = {}
    for name, measure in (("RunTFScript, bundles", measure_tfscript), ("RunInference, tuned", measure_inference)):
        taken = measure(read_rows(examples), model, count=options.rows, rate=options.rate)
        figures |= {f"{name}: {part}": summarize(values) for part, values in taken.items()}
    print(f"{options.rows} bundles of one row, {options.rate:g} per second; milliseconds per row")
    for name, figure in figures.items():
        print(f"  {name:32} p50 {figure['p50']:8.2f}   p99 {figure['p99']:8.2f}")
    added = figures["RunTFScript, bundles: added"]
    for name, most in TARGETS_MS.items():
        print(f"  added, {name}: target: at most {most:g}, {'met' if added[name] <= most else 'MISSED'}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())

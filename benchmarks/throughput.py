"""Rows per second of RunTFScript and its peers over one TFRecord file: options in, a report out.

Each contender runs alone in a fresh process, in three jobs over files that differ in length only: all rows, one row,
and half of the rows. The total time of the job with one row is called the start-up time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys

from benchmarks import report, workload
from benchmarks.contenders import CONTENDERS, SCRIPTS
from benchmarks.digest import Digest, digest_csv, read_digest
from benchmarks.measure import CommandFailed, Measurement, python_command, run_measured

ALL_CONTENDERS = ("plain", *CONTENDERS)
COMPUTE_BOUND_CONTENDERS = ("plain", "tfscript")
# The default handler scores about 8,000 rows per second: a million would take minutes, and show nothing new.
SLOW_CONTENDERS = ("inference_default",)
SLOW_ROWS = 100_000


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the options, with the defaults of the chosen variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="rows of the file (1,000,000; compute-bound: 200,000)")
    parser.add_argument("--contenders", help=f"comma-separated, of {', '.join(ALL_CONTENDERS)}")
    parser.add_argument("--compute-bound", action="store_true", help="a model that takes about 10 ms per batch of 32")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each job; the median counts")
    parser.add_argument("--whole-time-only", action="store_true", help="leave out the jobs of half and of one row")
    workload.add_flags(parser)
    options = parser.parse_args(argv)
    options.rows = options.rows or (200_000 if options.compute_bound else 1_000_000)
    options.batch_size = 32 if options.compute_bound else 1024
    names = COMPUTE_BOUND_CONTENDERS if options.compute_bound else ALL_CONTENDERS
    if options.contenders:
        names = tuple(options.contenders.split(","))
    unknown = sorted(set(names) - set(ALL_CONTENDERS))
    if unknown or options.rows < 2 or options.repeats < 1:
        parser.error(
            f"unknown contender {unknown[0]!r}; there are {', '.join(ALL_CONTENDERS)}"
            if unknown
            else "`--rows` must be at least 2, `--repeats` at least 1"
        )
    options.contenders = names
    return options


def rows_of(contender: str, options: argparse.Namespace) -> int:
    """Return the number of rows that a contender gets."""
    return min(options.rows, SLOW_ROWS) if contender in SLOW_CONTENDERS else options.rows


def jobs_of(contender: str, options: argparse.Namespace) -> tuple[int, ...]:
    """Return the numbers of rows of a contender's jobs: all, one, and half, without those that are left out."""
    rows = rows_of(contender, options)
    jobs = (rows, 1, rows // 2)
    if options.whole_time_only:
        return jobs[:1]
    # Beside a minute of computation, the overlap of start-up and reading is negligible: no need to measure the half.
    return jobs[:2] if options.compute_bound else jobs


def measure_job(contender: str, rows: int, options: argparse.Namespace) -> tuple[Measurement, Digest]:
    """Run one contender once over one file.

    Args:
      contender: name of the contender.
      rows: rows of the file.
      options: options of the command line.

    Returns:
      (measurement, digest of the output).
    """
    examples = workload.make_rows(options.work_dir, rows)
    keras_model, saved_model = workload.make_model(options.work_dir, heavy=options.compute_bound)
    first_rows = min(rows_of(name, options) for name in options.contenders)
    result = os.path.join(options.work_dir, f"{contender}.result")
    if contender == "plain":
        command = [sys.executable, os.path.join(SCRIPTS, "plain.py")]
        arguments = {"examples": examples, "model": keras_model, "predictions": result}
        arguments["batch-size"] = str(options.batch_size)
    else:
        command = python_command("benchmarks.contenders", contender)
        arguments = {"examples": examples, "keras_model": keras_model, "saved_model": saved_model}
        arguments |= {"batch_size": str(options.batch_size), "first_rows": str(first_rows), "digest": result}
    command += [f"--{name}={value}" for name, value in arguments.items()]
    measurement = run_measured(command, log_path=os.path.join(options.work_dir, f"{contender}.log"))
    digest = digest_csv(result, first_rows) if contender == "plain" else read_digest(result)
    os.remove(result)
    return measurement, digest


def measure_contender(contender: str, options: argparse.Namespace) -> list[report.Sample]:
    """Run each of one contender's jobs once."""
    samples = []
    for count in jobs_of(contender, options):
        measurement, digest = measure_job(contender, count, options)
        if digest.rows != count:
            raise CommandFailed(f"{contender} gave out {digest.rows} rows of {count}")
        samples.append(report.Sample(count, measurement, digest))
        print(f"{contender:18} {count:>10,} rows {measurement.whole_s:8.2f} s", file=sys.stderr, flush=True)
    return samples


def summarize(contender: str, rounds: list[list[report.Sample]]) -> report.Result:
    """Return the medians of a contender's repeats.

    Args:
      contender: name of the contender.
      rounds: samples of each repeat, all in the same order of jobs.
    """
    whole, startup, half = (
        statistics.median(samples[job].measurement.whole_s for samples in rounds) if job < len(rounds[0]) else None
        for job in range(3)
    )
    assert whole is not None
    full = [samples[0] for samples in rounds]
    return report.Result(
        contender=contender,
        rows=full[0].rows,
        whole_s=whole,
        half_s=half,
        startup_s=startup,
        other_cpu_share=max(sample.measurement.other_cpu_share for samples in rounds for sample in samples),
        cpu_s=statistics.median(sample.measurement.cpu_s for sample in full),
        peak_rss_mib=max(sample.measurement.peak_rss_mib for sample in full),
        child_peak_mib=max(max(sample.measurement.child_peaks_mib, default=0.0) for sample in full),
        digest=full[0].digest,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return 1 if contenders differ in their predictions, else 0."""
    options = parse_arguments(argv)
    os.makedirs(options.work_dir, exist_ok=True)
    rounds: dict[str, list[list[report.Sample]]] = {name: [] for name in options.contenders}
    # All files are made before the first measurement. Contenders take turns, so that a slow minute affects all alike.
    for name in options.contenders:
        for count in jobs_of(name, options):
            workload.make_rows(options.work_dir, count)
    workload.make_model(options.work_dir, heavy=options.compute_bound)
    for _ in range(options.repeats):
        for name in options.contenders:
            rounds[name].append(measure_contender(name, options))
    results = [summarize(name, rounds[name]) for name in options.contenders]
    ratios = report.compare(results, rows=options.rows, compute_bound=options.compute_bound)
    print(
        report.format_report(results, ratios, rows=options.rows, batch_size=options.batch_size, repeats=options.repeats)
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report.to_json(results, ratios), file, indent=2)
    return 0 if report.find_disagreement(results) is None else 1


if __name__ == "__main__":
    sys.exit(main())

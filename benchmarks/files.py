"""Files to files: rows of TFRecord and Parquet files scored into files of the same format; options in, a report out.

Each contender runs alone in a fresh process, and contenders take turns. A row is a string and 32 floats. `plain` is a
script without a pipeline, `bundles` is `RunTFScript` on batches, and `rows` is `RunTFScript` on an element per row.
"""

from __future__ import annotations

import argparse
import dataclasses
import glob
import json
import os
import statistics
import sys
import tempfile

from benchmarks import workload
from benchmarks.digest import Digest, digest_block
from benchmarks.files_jobs import JOBS, read_scores
from benchmarks.measure import CommandFailed, Measurement, python_command, run_measured

# Sums of float32 scores differ by less than this between batch sizes.
_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Figures:
    """Medians of one contender's runs.

    Attributes:
      file_format: `tfrecord` or `parquet`.
      contender: name of the contender.
      rows: rows of the file.
      whole_s: seconds from the start of the process to its end.
      cpu_s: CPU seconds of all processes of the job.
      peak_rss_mib: largest peak resident memory of the pipeline's process, or of the plain script.
      child_peak_mib: largest peak resident memory of a script process.
      ratio: whole time in proportion to that of the plain script; None without one.
      cpu_ratio: CPU time in proportion to that of the plain script; None without one.
    """

    file_format: str
    contender: str
    rows: int
    whole_s: float
    cpu_s: float
    peak_rss_mib: float
    child_peak_mib: float
    ratio: float | None = None
    cpu_ratio: float | None = None


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the files (%(default)s)")
    parser.add_argument("--formats", default="tfrecord,parquet", help="comma-separated (%(default)s)")
    parser.add_argument("--contenders", default="plain,bundles,rows", help="comma-separated (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each job; the median counts (%(default)s)")
    workload.add_flags(parser)
    options = parser.parse_args(argv)
    formats, contenders = options.formats.split(","), options.contenders.split(",")
    options.jobs = [job for job in JOBS if job[0] in formats and job[1] in contenders]
    unknown = {*formats, *contenders} - {name for job in JOBS for name in job}
    if unknown or not options.jobs or options.rows < 1 or options.repeats < 1:
        parser.error(f"unknown: {', '.join(sorted(unknown))}" if unknown else "nothing to run")
    return options


def measure_job(file_format: str, contender: str, options: argparse.Namespace) -> tuple[Measurement, Digest]:
    """Run one contender once; return its measurement, and the digest of the files that it wrote.

    Raises:
      CommandFailed: the job failed, or wrote another number of rows.
    """
    rows = _make_file(file_format, options)
    model, _ = workload.make_model(options.work_dir, heavy=False)
    with tempfile.TemporaryDirectory(dir=options.work_dir) as directory:
        measurement = run_measured(
            python_command(
                "benchmarks.files_jobs", file_format, contender,
                f"--rows={rows}", f"--model={model}", f"--scores={os.path.join(directory, 'scores')}",
            ),
            log_path=os.path.join(options.work_dir, f"files-{file_format}-{contender}.log"),
        )  # fmt: skip
        digest = Digest()
        for ids, scores in read_scores(sorted(glob.glob(os.path.join(directory, "scores*")))):
            digest += digest_block(ids, scores, options.rows)
    if digest.rows != options.rows:
        raise CommandFailed(f"{contender} wrote {digest.rows} rows of {options.rows} to {file_format}")
    return measurement, digest


def summarize(job: tuple[str, str], rows: int, measurements: list[Measurement]) -> Figures:
    """Return the medians of one contender's runs."""
    return Figures(
        *job,
        rows,
        whole_s=statistics.median(one.whole_s for one in measurements),
        cpu_s=statistics.median(one.cpu_s for one in measurements),
        peak_rss_mib=max(one.peak_rss_mib for one in measurements),
        child_peak_mib=max(max(one.child_peaks_mib, default=0.0) for one in measurements),
    )


def compare(figures: list[Figures]) -> list[Figures]:
    """Return the figures with each contender's ratios to the plain script of its format."""
    plain = {one.file_format: one for one in figures if one.contender == "plain"}
    return [
        dataclasses.replace(
            one,
            ratio=one.whole_s / plain[one.file_format].whole_s,
            cpu_ratio=one.cpu_s / plain[one.file_format].cpu_s,
        )
        if one.file_format in plain
        else one
        for one in figures
    ]


def format_report(figures: list[Figures], *, repeats: int) -> str:
    """Return the report as text."""
    lines = [
        f"Files to files: {figures[0].rows:,} rows of a string and 32 floats; median of {repeats}",
        f"{'format':10}{'contender':11}{'whole s':>9}{'x plain':>9}{'rows/s':>11}{'CPU s':>8}{'x plain':>9}"
        f"{'peak MiB':>10}{'child':>7}",
    ]
    for one in figures:
        ratio, cpu_ratio = ("" if value is None else f"{value:.2f}" for value in (one.ratio, one.cpu_ratio))
        lines.append(
            f"{one.file_format:10}{one.contender:11}{one.whole_s:9.2f}{ratio:>9}{one.rows / one.whole_s:11,.0f}"
            f"{one.cpu_s:8.2f}{cpu_ratio:>9}{one.peak_rss_mib:10,.0f}{one.child_peak_mib:7,.0f}"
        )
    return "\n".join(lines)


def find_disagreement(digests: dict[tuple[str, str], Digest]) -> str | None:
    """Return the name of a contender whose scores differ from those of the first one; None if all agree."""
    (_, first), *others = digests.items()
    for (file_format, contender), digest in others:
        if abs(digest.checksum - first.checksum) > _TOLERANCE * abs(first.checksum):
            return f"{contender} ({file_format})"
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return 1 if contenders differ in their scores, else 0."""
    options = parse_arguments(argv)
    os.makedirs(options.work_dir, exist_ok=True)
    # All files are made before the first measurement. Contenders take turns, so that a slow minute affects all alike.
    for file_format, _ in options.jobs:
        _make_file(file_format, options)
    measurements: dict[tuple[str, str], list[Measurement]] = {job: [] for job in options.jobs}
    digests: dict[tuple[str, str], Digest] = {}
    for _ in range(options.repeats):
        for job in options.jobs:
            measurement, digests[job] = measure_job(*job, options)
            measurements[job].append(measurement)
            print(f"{' '.join(job):20} {measurement.whole_s:8.2f} s", file=sys.stderr, flush=True)
    figures = compare([summarize(job, options.rows, measurements[job]) for job in options.jobs])
    print(format_report(figures, repeats=options.repeats))
    different = find_disagreement(digests)
    print(f"Scores: {'the same in all contenders' if different is None else f'{different} has others'}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([dataclasses.asdict(one) for one in figures], file, indent=2)
    return 0 if different is None else 1


def _make_file(file_format: str, options: argparse.Namespace) -> str:
    make = workload.make_parquet if file_format == "parquet" else workload.make_rows
    return make(options.work_dir, options.rows)


if __name__ == "__main__":
    sys.exit(main())

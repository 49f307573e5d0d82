"""Cost per row of RunTFScript from 10^4 rows to 10^7, and from 1 shard to 32, beside an identity with the same shuffle.

On the in-memory runner of this machine, or on a Flink cluster of two machines (`--engine cluster`; needs what
`make test-cluster` needs). The model costs nothing, so this is the cost of the way to the script and back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks import scale_jobs

# A job of so few rows shows the time that any job takes to start and end.
_BASE_ROWS = 100


class Engine(NamedTuple):
    """Pipeline options of jobs on an engine, and a directory that its workers share."""

    options: list[str]
    spool_dir: str


class Line(NamedTuple):
    """One line of the report.

    Attributes:
      job: the job.
      seconds: from submission to end.
      base_s: the same for a job of few rows.
    """

    job: scale_jobs.Job
    seconds: float
    base_s: float

    @property
    def micros_per_row(self) -> float:
        """Microseconds per row, without what any job takes."""
        return max(0.0, self.seconds - self.base_s) / self.job.rows * 1e6


@contextlib.contextmanager
def engine_of(name: str, parallelism: int) -> Iterator[Engine]:
    """Yield an engine, which runs as long as the block."""
    with tempfile.TemporaryDirectory(prefix="scale-") as directory:
        if name == "in_memory":
            yield Engine([], directory)
            return
        from tests.engines import flink_cluster
        from tests.engines.server import started

        flink_cluster.build()
        with (
            flink_cluster.flink_cluster(_made(directory, "cluster"), slots=(parallelism + 1) // 2) as cluster,
            started(flink_cluster.JobServer(cluster), _made(directory, "server")) as address,
        ):
            options = [f"--job_endpoint={address}", *cluster.options(parallelism)]
            yield Engine(options, str(cluster.make_shared_directory()))


def _made(directory: str, name: str) -> pathlib.Path:
    path = pathlib.Path(directory, name)
    path.mkdir()
    path.parent.chmod(0o755)
    return path


def measure(engine: Engine, options: argparse.Namespace) -> list[Line]:
    """Run all jobs, the identity and the script in turn."""
    lines = []
    for shards in options.shards:
        bases = {}
        for rows in [_BASE_ROWS, *options.rows]:
            for kind in ("identity", "script"):
                job = scale_jobs.Job(kind, rows, shards, options.feed, options.transport, engine.spool_dir)
                seconds = run_apart(job, engine.options)
                bases.setdefault(kind, seconds)
                print(f"{kind:9} {rows:>11,} rows {shards:3} shards {seconds:8.1f} s", file=sys.stderr, flush=True)
                if rows != _BASE_ROWS:
                    lines.append(Line(job, seconds, bases[kind]))
    return lines


def run_apart(job: scale_jobs.Job, options: list[str]) -> float:
    """Run a job in a process of its own, as no job may find the script processes of another; return its seconds."""
    command = [sys.executable, "-m", "benchmarks.scale", f"--job={json.dumps(job)}", f"--options={json.dumps(options)}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{job} failed:\n{done.stderr[-5000:]}")
    return float(done.stdout)


def format_report(lines: list[Line]) -> str:
    """Return the report as a table of Markdown."""
    table = ["| rows | shards | identity, s | script, s | identity, µs/row | script, µs/row | throughput ratio |"]
    table.append("| --- | --- | --- | --- | --- | --- | --- |")
    for identity, script in zip(lines[0::2], lines[1::2]):
        ratio = identity.micros_per_row / script.micros_per_row if script.micros_per_row else float("nan")
        table.append(
            f"| {script.job.rows:,} | {script.job.shards} | {identity.seconds:.1f} | {script.seconds:.1f} | "
            f"{identity.micros_per_row:.2f} | {script.micros_per_row:.2f} | {ratio:.2f} |"
        )
    return "\n".join(table)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, and print its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("in_memory", "cluster"), default="in_memory")
    parser.add_argument("--parallelism", type=int, default=4, help="subtasks of the cluster (%(default)s)")
    parser.add_argument("--rows", type=_numbers, default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--shards", type=_numbers, default=[1, 4, 32])
    parser.add_argument("--feed", choices=("dataset", "bundles", "stream"), default="dataset", help="(%(default)s)")
    parser.add_argument("--transport", choices=("shuffle", "files"), help="chosen by the size of the data by default")
    parser.add_argument("--json", help="file to write the figures to")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.job:
        job, arguments = scale_jobs.Job(*json.loads(options.job)), json.loads(options.options)
        print(scale_jobs.run(job, arguments, runner="PortableRunner" if arguments else FnApiRunner()))
        return 0
    with engine_of(options.engine, options.parallelism) as engine:
        lines = measure(engine, options)
    print(format_report(lines))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([{**line.job._asdict(), "seconds": line.seconds, "base_s": line.base_s} for line in lines], file)
    return 0


def _numbers(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())

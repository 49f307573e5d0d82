"""Soak of a long stream: a time and a rate in, a report of its growth and a verdict out.

A pipeline in a fresh process runs before a job server. It is given rows every second, which go through windows of some
seconds and a script in the `stream` feed. Memory, descriptors and threads of the pipeline's process and of its script
processes are watched from outside, and the number of these processes. After the first minute nothing may grow, and
each row that went in must have come out once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows

from benchmarks.measure import python_command
from pipelines.stream_folder import END, SUFFIX, WatchFolder
from tests.engines import ENGINES
from tests.engines.server import started

COLUMNS = 32
SHARDS = 2
# What may be added between the first and the last part of the watched time. Allocators give memory back in large
# pieces, and Python's thread pools grow to their size when there happens to be much to do at a time.
PIPELINE_SLACK_MIB = 24.0
SCRIPT_SLACK_MIB = 24.0
COUNT_SLACK = 2.0
# What is compared are medians over so much of the watched time at its start and at its end.
_PART = 0.2
# Files that were read long ago; a worker that is behind by more has other worries.
_KEEP_FILES = 60
_END_S = 120.0

_SCRIPT = os.path.join(os.path.dirname(__file__), "scripts", "soak.py")


@dataclasses.dataclass(frozen=True)
class Sample:
    """Sizes at one moment.

    Attributes:
      at_s: since the start.
      pipeline_mib, pipeline_descriptors, pipeline_threads: of the pipeline's process.
      script_mib: the mean of one script process, as they come and go with the load.
      script_descriptors, script_threads: the most that one of them has.
      processes: how many there are.
    """

    at_s: float
    pipeline_mib: float
    pipeline_descriptors: float
    pipeline_threads: float
    script_mib: float
    script_descriptors: float
    script_threads: float
    processes: float


SLACK = {
    "pipeline_mib": PIPELINE_SLACK_MIB,
    "pipeline_descriptors": COUNT_SLACK,
    "pipeline_threads": COUNT_SLACK,
    "script_mib": SCRIPT_SLACK_MIB,
    "script_descriptors": COUNT_SLACK,
    "script_threads": COUNT_SLACK,
    "processes": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Growth:
    """One figure at the start and at the end of the watched time."""

    name: str
    first: float
    last: float

    @property
    def is_flat(self) -> bool:
        """True if the growth is within its limit."""
        return self.last - self.first <= SLACK[self.name]


def growths(samples: Sequence[Sample], *, warm_up_s: float) -> list[Growth]:
    """Compare the first and the last samples after the warm-up.

    Args:
      samples: in order of time.
      warm_up_s: seconds that are not compared.

    Raises:
      ValueError: there are too few samples to compare.
    """
    watched = [sample for sample in samples if sample.at_s >= warm_up_s]
    n = round(len(watched) * _PART)
    if n < 2:
        raise ValueError(f"{len(watched)} samples after the first {warm_up_s:g} s are too few to compare.")
    return [
        Growth(
            name,
            statistics.median(getattr(sample, name) for sample in watched[:n]),
            statistics.median(getattr(sample, name) for sample in watched[-n:]),
        )
        for name in SLACK
    ]


def run_stream(folder: str, window_s: float, result: str, beam_arguments: Sequence[str]) -> None:
    """Runs the pipeline in this process, until the folder says that no more come.

    Args:
      folder: where files of rows arrive.
      window_s: length of a window.
      result: JSON file to write: the counters.
      beam_arguments: Beam's options.
    """
    from beam_tfscript import RunTFScript

    pipeline = beam.Pipeline(options=PipelineOptions(["--streaming", *beam_arguments]))
    _ = (
        pipeline
        | "Watch" >> WatchFolder(folder, parse=_parse)
        | "Window" >> beam.WindowInto(FixedWindows(window_s))
        | "Score"
        >> RunTFScript(
            main_script_file=_SCRIPT,
            input_schema=f"id string not null, x tensor<float>({COLUMNS}) not null",
            output_schema="id string, score float",
            user_params={"columns": COLUMNS},
            num_workers=SHARDS,
            feed="stream",
            env={"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    )
    finished = pipeline.run()
    finished.wait_until_finish()
    counters = finished.metrics().query()["counters"]
    own = [entry for entry in counters if entry.key.metric.namespace.startswith("beam_tfscript")]
    with open(result, "w", encoding="utf-8") as file:
        json.dump({entry.key.metric.name: entry.committed or entry.attempted for entry in own}, file)


def watch(command: Sequence[str], *, directory: str, seconds: float, rate: int) -> Iterator[Sample]:
    """Run the pipeline's command to its end; every second, give it rows, and measure its process and the children.

    Args:
      command: program and arguments.
      directory: its log goes there, and the rows.
      seconds: how long rows come; when it is not over long after that, it is ended.
      rate: rows per second.

    Raises:
      RuntimeError: it failed, or took too long.
    """
    log_path = os.path.join(directory, "log")
    with open(log_path, "wb") as log:
        process = subprocess.Popen(list(command), stdout=log, stderr=subprocess.STDOUT)
        begin = time.monotonic()
        try:
            for number in itertools.count():
                if process.poll() is not None or number > seconds + _END_S:
                    break
                _drop(os.path.join(directory, "rows"), number, rate, is_last=number >= seconds)
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield _look_at(psutil.Process(process.pid), time.monotonic() - begin)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, begin + number + 1 - time.monotonic()))
        finally:
            if is_late := process.poll() is None:
                process.kill()
                process.wait()
    if is_late or process.returncode:
        with open(log_path, encoding="utf-8", errors="replace") as text:
            why = "did not end" if is_late else f"ended with status {process.returncode}"
            raise RuntimeError(f"the pipeline {why}:\n{text.read()[-3000:]}")


def format_report(samples: Sequence[Sample], found: Sequence[Growth], counters: dict[str, Any]) -> str:
    """The report: a line a minute, then what is compared, then the counters."""
    fields = [field.name for field in dataclasses.fields(Sample)][1:]
    lines = ["  at s " + "".join(f"{name:>22}" for name in fields)]
    due = 0.0
    for sample in samples:
        if sample.at_s >= due:
            due += max(60.0, samples[-1].at_s / 12)
            lines.append(f"{sample.at_s:6.0f} " + "".join(f"{getattr(sample, name):22.0f}" for name in fields))
    lines.append("")
    for growth in found:
        verdict = "flat" if growth.is_flat else f"GROWS by more than {SLACK[growth.name]:g}"
        lines.append(f"{growth.name:22} {growth.first:10.1f} -> {growth.last:10.1f}   {verdict}")
    lines.append("")
    lines.append("   ".join(f"{name} {value}" for name, value in sorted(counters.items())))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the soak; the status is 0 if nothing grows and no row is lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="flink", help="(%(default)s)")
    parser.add_argument("--seconds", type=int, default=600, help="how long rows come (%(default)s)")
    parser.add_argument("--rate", type=int, default=200, help="rows per second (%(default)s)")
    parser.add_argument("--window", type=float, default=10, help="length of a window in seconds (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=60, help="seconds that are not compared (%(default)s)")
    parser.add_argument("--json", help="file to write the figures to")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    options, beam_arguments = parser.parse_known_args(argv)
    if options.result:
        run_stream(options.folder, options.window, options.result, beam_arguments)
        return 0
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        samples, counters = _soak(options, directory)
    found = growths([sample for sample in samples if sample.at_s <= options.seconds], warm_up_s=options.warm_up)
    sys.stdout.write(format_report(samples, found, counters) + "\n")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            figures = {"samples": [dataclasses.asdict(sample) for sample in samples], "counters": counters}
            json.dump(figures | {"growths": [dataclasses.asdict(growth) for growth in found]}, file, indent=2)
    is_whole = counters["rows_in"] == counters["rows_out"] == options.seconds * options.rate
    return 0 if is_whole and all(growth.is_flat for growth in found) else 1


def _soak(options: argparse.Namespace, directory: str) -> tuple[list[Sample], dict]:
    """Starts the engine and the pipeline, and watches."""
    engine = ENGINES[options.engine]
    engine.build()
    server, folder, result = (os.path.join(directory, name) for name in ("server", "rows", "counters.json"))
    os.mkdir(server)
    os.mkdir(folder)
    samples = []
    with started(engine, pathlib.Path(server)) as address:
        command = python_command(
            "tests.soak", f"--window={options.window}", f"--folder={folder}", f"--result={result}",
            "--runner=PortableRunner", f"--job_endpoint={address}", "--environment_type=LOOPBACK", *engine.OPTIONS,
        )  # fmt: skip
        for sample in watch(command, directory=directory, seconds=options.seconds, rate=options.rate):
            samples.append(sample)
            if len(samples) % 60 == 0:
                sys.stderr.write(f"{sample.at_s:5.0f} s of {options.seconds}\n")
    with open(result, encoding="utf-8") as file:
        return samples, json.load(file)


def _drop(folder: str, number: int, rate: int, *, is_last: bool) -> None:
    """Put the rows of a second into the folder, and remove those that were read long ago."""
    path = os.path.join(folder, END if is_last else f"{number:06}{SUFFIX}")
    with open(path + ".part", "w", encoding="utf-8") as file:
        for i in range(0 if is_last else rate):
            file.write(json.dumps({"at": time.time(), "id": f"{number} {i}", "x": [float(i % 7)] * COLUMNS}) + "\n")
    os.rename(path + ".part", path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, f"{number - _KEEP_FILES:06}{SUFFIX}"))


def _look_at(process: psutil.Process, at_s: float) -> Sample:
    scripts = [found for child in process.children(recursive=True) if (found := _figures(child)) is not None]
    own = _figures(process) or (0.0, 0.0, 0.0)
    return Sample(
        at_s, *own,
        statistics.mean([mib for mib, _, _ in scripts] or [0.0]),
        max([descriptors for _, descriptors, _ in scripts] or [0.0]),
        max([threads for _, _, threads in scripts] or [0.0]),
        len(scripts),
    )  # fmt: skip


def _figures(process: psutil.Process) -> tuple[float, float, float] | None:
    try:
        return process.memory_info().rss / 2**20, float(process.num_fds()), float(process.num_threads())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None  # it has ended meanwhile


def _parse(line: str) -> tuple[float, dict]:
    row = json.loads(line)
    return row.pop("at"), row


if __name__ == "__main__":
    sys.exit(main())

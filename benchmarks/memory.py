"""Memory that a shard or a bundle of gigabytes takes: its size in, a report out.

Two jobs over the same rows, each in a fresh process, on the in-memory runner or on Flink: RunTFScript with a script
that reads the rows, and a job without a script. In feed="dataset" the latter is a GroupByKey of the same chunks, as the
in-memory runner holds the whole group in both. In feed="bundles", and where rows go as files, it counts the rows. The
difference is the memory that this project adds. The script process is compared with itself right after the import of
TensorFlow. Flink's JVM is apart, and has a bound of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from benchmarks.measure import python_command, run_measured
from benchmarks.report import Ratio

FLOATS_OF_A_ROW = 4096  # 16 KiB
ROWS_OF_A_MIB = 64
BATCH_SIZE = 64  # a mebibyte
PIPELINE_TARGET_MIB = 300
SCRIPT_TARGET_MIB = 300

# What is measured -> (job without a script, job with a script). "files" is feed="dataset" with transport="files".
JOBS = {"dataset": ("group", "dataset"), "bundles": ("count", "bundles"), "files": ("count", "files")}
_SCRIPTS = os.path.join(os.path.dirname(__file__), "scripts")


@dataclasses.dataclass(frozen=True)
class Figures:
    """Peaks in MiB; medians of the repeats."""

    feed: str
    gib: float
    rows: int
    identity_peak_mib: float
    tfscript_peak_mib: float
    script_after_import_mib: float
    script_peak_mib: float

    @property
    def pipeline_added_mib(self) -> float:
        """Memory of the pipeline's process beyond that of the job without a script, in MiB."""
        return self.tfscript_peak_mib - self.identity_peak_mib

    @property
    def script_added_mib(self) -> float:
        """Memory of the script process beyond TensorFlow's import, in MiB."""
        return self.script_peak_mib - self.script_after_import_mib

    def targets(self) -> list[Ratio]:
        """Return the two figures that have a target."""
        return [
            Ratio("pipeline's process, added by RunTFScript, MiB", self.pipeline_added_mib, PIPELINE_TARGET_MIB),
            Ratio("script process, above importing TensorFlow, MiB", self.script_added_mib, SCRIPT_TARGET_MIB),
        ]


class ChunkExamples(beam.DoFn):
    """DoFn: serialized Examples -> the chunks that RunTFScript would make of them."""

    def start_bundle(self) -> None:
        """Begin without rows."""
        from beam_tfscript.data.chunks import Chunker

        self._chunker = Chunker(1, 0)

    def process(self, example: bytes) -> Iterator[tuple[int, tuple[int, bytes]]]:
        """Add one Example."""
        for chunk in self._chunker.add([example]):
            yield chunk.shard, (chunk.count, chunk.payload)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Yield the last chunks."""
        for chunk in self._chunker.flush():
            yield WindowedValue((chunk.shard, (chunk.count, chunk.payload)), 0, [GlobalWindow()])


def run_job(job: str, mib: int, example: str, result: str, endpoint: str | None) -> None:
    """Run one job in this process.

    Args:
      job: name of a job in `JOBS`.
      mib: size of the shard in MiB.
      example: path of a file with the serialized Example of each row. Making the Example here would import TensorFlow
        into both jobs, and would hide an import by RunTFScript.
      result: path of a JSON file to write: the number of output rows, and the script's figures.
      endpoint: address of Flink's job server; None for the in-memory runner.
    """
    with open(example, "rb") as file:
        of_a_mib = [file.read()] * ROWS_OF_A_MIB
    arguments = [f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK"] if endpoint else []
    runner = "PortableRunner" if endpoint else FnApiRunner()
    spool_dir = os.path.join(os.path.dirname(result), "spool")
    with beam.Pipeline(runner=runner, options=PipelineOptions(arguments)) as pipeline:
        rows = (
            pipeline
            | "Mebibytes" >> beam.Create(range(mib), reshuffle=False)
            | "Rows" >> beam.FlatMap(lambda _: of_a_mib).with_output_types(bytes)
        )
        out = {"group": _group, "count": _count_rows}.get(job, lambda rows: _read_in_script(rows, job, spool_dir))(rows)
        out | "Write" >> beam.Map(_write_json, result)


@contextlib.contextmanager
def _engine(name: str, directory: str) -> Iterator[list[str]]:
    """Yield the arguments of a job on an engine, which runs as long as the block."""
    if name == "in_memory":
        yield []
        return
    from tests.engines import ENGINES
    from tests.engines.server import started

    ENGINES[name].build()
    with started(ENGINES[name], pathlib.Path(directory)) as address:
        yield [f"--endpoint={address}"]


def make_example() -> bytes:
    """Return the serialized Example of each row."""
    import tensorflow as tf

    feature = tf.train.Feature(float_list=tf.train.FloatList(value=range(FLOATS_OF_A_ROW)))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()


def measure(options: argparse.Namespace) -> Figures:
    """Run both jobs, and return the medians of the repeats."""
    without, with_script = JOBS[options.feed]
    peaks: dict[str, list[float]] = {without: [], with_script: []}
    results: dict[str, dict[str, Any]] = {}
    mib = round(options.gib * 1024)
    with (
        tempfile.TemporaryDirectory(prefix="memory-", dir=options.work_dir) as directory,
        _engine(options.engine, directory) as engine,
    ):
        example = os.path.join(directory, "example")
        with open(example, "wb") as file:
            file.write(make_example())
        for _ in range(options.repeats):
            for job in peaks:
                path = os.path.join(directory, f"{job}.json")
                arguments = (f"--job={job}", f"--mib={mib}", f"--example={example}", f"--result={path}", *engine)
                command = python_command("benchmarks.memory", *arguments)
                measurement = run_measured(command, log_path=os.path.join(directory, f"{job}.log"))
                peaks[job].append(measurement.peak_rss_mib)
                with open(path, encoding="utf-8") as text:
                    results[job] = json.load(text)
                print(f"{job:10} {measurement.whole_s:8.2f} s", file=sys.stderr, flush=True)
    if {result["rows"] for result in results.values()} != {mib * ROWS_OF_A_MIB}:
        raise ValueError(f"the jobs had {results} rows, there were {mib * ROWS_OF_A_MIB}")
    return Figures(
        feed=options.feed,
        gib=options.gib,
        rows=mib * ROWS_OF_A_MIB,
        identity_peak_mib=statistics.median(peaks[without]),
        tfscript_peak_mib=statistics.median(peaks[with_script]),
        script_after_import_mib=results[with_script]["after_import_mib"],
        script_peak_mib=results[with_script]["peak_mib"],
    )


def format_figures(figures: Figures) -> str:
    """Return the report."""
    unit = "bundle" if figures.feed == "bundles" else "shard"
    without = "a GroupByKey of the same chunks" if figures.feed == "dataset" else "counting"
    lines = [
        f"A {unit} of {figures.gib:g} GiB ({figures.feed}), {figures.rows:,} rows of 16 KiB; peak resident memory, MiB",
        "",
        f"pipeline's process, {without:31}{figures.identity_peak_mib:10,.0f}",
        f"pipeline's process, RunTFScript                    {figures.tfscript_peak_mib:10,.0f}",
        f"script process, right after importing TensorFlow   {figures.script_after_import_mib:10,.0f}",
        f"script process, having read all rows               {figures.script_peak_mib:10,.0f}",
        "",
    ]
    lines += [f"{ratio.name:50} {ratio.value:10,.0f}   {ratio.verdict()}" for ratio in figures.targets()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, or one of its jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0, help="size of the shard or bundle (%(default)s)")
    parser.add_argument(
        "--feed",
        choices=sorted(JOBS),
        default="dataset",
        help="feed of the rows; files: dataset, by files (%(default)s)",
    )
    parser.add_argument("--engine", choices=("in_memory", "flink"), default="in_memory", help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each job; the median counts")
    parser.add_argument("--json", help="file to write the figures to")
    parser.add_argument("--work-dir", default=tempfile.gettempdir(), help="directory for logs (%(default)s)")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--example", help=argparse.SUPPRESS)
    parser.add_argument("--mib", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.job:
        run_job(options.job, options.mib, options.example, options.result, options.endpoint)
        return 0
    os.makedirs(options.work_dir, exist_ok=True)
    figures = measure(options)
    print(format_figures(figures))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(figures), file, indent=2)
    return 0


def _read_in_script(rows: beam.PCollection, job: str, spool_dir: str) -> beam.PCollection:
    from beam_tfscript import RunTFScript

    transport = {"transport": "files", "spool_dir": spool_dir} if job == "files" else {}

    return (
        rows
        | "Read"
        >> RunTFScript(
            main_script_file=os.path.join(_SCRIPTS, "read_batches.py" if job == "bundles" else "read.py"),
            input_schema=f"x tensor<float>({FLOATS_OF_A_ROW}) not null",
            output_schema="rows bigint, after_import_mib double, peak_mib double",
            user_params={"batch_size": BATCH_SIZE},
            feed="bundles" if job == "bundles" else "dataset",
            user_files=[os.path.join(_SCRIPTS, "read.py")],
            **transport,
        )
        | "Last" >> beam.CombineGlobally(_most).without_defaults()
        | "AsDict" >> beam.Map(lambda row: row._asdict())
    )


def _group(rows: beam.PCollection) -> beam.PCollection:
    return (
        rows
        | "Chunk" >> beam.ParDo(ChunkExamples())
        | "GroupByShard" >> beam.GroupByKey()
        | "Count" >> beam.Map(_count)
    )


def _count_rows(rows: beam.PCollection) -> beam.PCollection:
    return rows | "CountRows" >> beam.combiners.Count.Globally() | "AsRows" >> beam.Map(lambda count: {"rows": count})


def _most(rows: Iterable[Any]) -> Any:
    """Return a script's last row, which has the largest number of rows."""
    return max(rows, key=lambda row: row.rows)


def _count(group: tuple[int, Iterable[tuple[int, bytes]]]) -> dict[str, int]:
    return {"rows": sum(count for count, _ in group[1])}


def _write_json(figures: dict[str, Any], path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    sys.exit(main())

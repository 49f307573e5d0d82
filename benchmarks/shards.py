"""Shards on each subtask of a Flink cluster, with the keys 0, 1, 2 … and with the keys that RunTFScript gives them.

Needs what `make test-cluster` needs.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript.data.shard_keys import make_shard_keys
from tests.engines import flink_cluster
from tests.engines.server import started

_AFTER = "Shards"


class Line(NamedTuple):
    """Shards on each subtask.

    Attributes:
      is_streaming: True for a streaming job.
      shards: number of shards.
      parallelism: number of subtasks.
      before: shards on each subtask, where their keys are 0, 1, 2 ….
      after: the same with the keys of RunTFScript.
    """

    is_streaming: bool
    shards: int
    parallelism: int
    before: list[int]
    after: list[int]


def count_shards(cluster: flink_cluster.FlinkCluster, keys: Sequence[int], parallelism: int, streaming: bool) -> list:
    """Run a job that groups elements by keys; return how many groups each subtask has read."""
    arguments = [f"--job_endpoint={cluster.endpoint}", *cluster.options(parallelism)]
    options = PipelineOptions([*arguments, "--streaming"] if streaming else arguments)
    known = set(cluster.jobs())
    with beam.Pipeline(runner="PortableRunner", options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create(list(keys))
            | beam.Map(lambda key: (key, b"")).with_output_types(beam.typehints.Tuple[int, bytes])
            | beam.GroupByKey()
            | _AFTER >> beam.Map(lambda group: group[0])
        )
    (job,) = set(cluster.jobs()) - known
    (vertex,) = [found for found in cluster.get(f"/jobs/{job}")["vertices"] if _AFTER in found["name"]]
    subtasks = cluster.get(f"/jobs/{job}/vertices/{vertex['id']}")["subtasks"]
    return [subtask["metrics"]["read-records"] for subtask in subtasks]


def measure(cluster: Any, numbers: list[int]) -> list[Line]:
    """Run the jobs: each number of shards on each number of subtasks that is not larger."""
    lines = []
    for streaming in (False, True):
        for parallelism in numbers:
            for shards in [number for number in numbers if number >= parallelism]:
                found = [
                    count_shards(cluster, keys, parallelism, streaming)
                    for keys in (range(shards), make_shard_keys(shards, is_streaming=streaming))
                ]
                lines.append(Line(streaming, shards, parallelism, *found))
                print(lines[-1], file=sys.stderr, flush=True)
    return lines


def format_report(lines: list[Line]) -> str:
    """Return the report as a table of Markdown."""
    table = ["| job | shards | subtasks | keys 0, 1, 2 … | keys of RunTFScript |", "| --- " * 5 + "|"]
    for line in lines:
        kind = "streaming" if line.is_streaming else "batch"
        before, after = (", ".join(map(str, counts)) for counts in (line.before, line.after))
        table.append(f"| {kind} | {line.shards} | {line.parallelism} | {before} | {after} |")
    return "\n".join(table)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, and print its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", default="2,4,8,16", help="of shards and of subtasks (%(default)s)")
    numbers = [int(part) for part in parser.parse_args(argv).numbers.split(",")]
    flink_cluster.build()
    with tempfile.TemporaryDirectory(prefix="shards-") as path:
        directory = pathlib.Path(path)
        directory.chmod(0o755)
        for name in ("cluster", "server"):
            (directory / name).mkdir()
        with (
            flink_cluster.flink_cluster(directory / "cluster", slots=max(numbers) // 2) as cluster,
            started(flink_cluster.JobServer(cluster), directory / "server") as cluster.endpoint,
        ):
            print(format_report(measure(cluster, numbers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

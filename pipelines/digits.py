"""Beam pipeline whose TensorFlow script learns handwritten digits, and reads digits that it has not seen.

    python -m pipelines.digits --output DIR [--input FILE] [Beam's own options, such as --runner]

In: a CSV file, 64 pixels and a digit per line. Out, in DIR: `predictions.jsonl`, with one line for each digit that was
held out from training, and `confusion.png`. A table of the accuracy goes to standard output.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.io import fileio
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript import RunTFScript

__all__ = ["build_pipeline", "main", "parse_digits"]

HERE = Path(__file__).resolve().parent
INPUT = HERE / "data" / "digits.csv.gz"
SCRIPT = HERE / "scripts" / "digits_score.py"

INPUT_SCHEMA = """
    id bigint not null, label bigint not null, training boolean not null, image tensor<float>(8, 8) not null
"""
OUTPUT_SCHEMA = "id bigint, label bigint, predicted bigint, confidence float"
USER_PARAMS = {"epochs": 20, "seed": 1}

# Must have no factor in common with 10, as much of the file counts 0 … 9 repeatedly. Every fifth row would hold out
# twice as many of some digits as of others.
HOLD_OUT_EVERY = 3


def parse_digits(lines: Iterable[str]) -> Iterator[beam.Row]:
    """Yield the rows of a CSV file: `id` is the line's number from 0, and every third row is not for training."""
    for number, values in enumerate(csv.reader(lines)):
        *pixels, label = map(int, values)
        yield beam.Row(
            id=number,
            label=label,
            training=number % HOLD_OUT_EVERY != 0,
            image=np.array(pixels, dtype=np.float32).reshape(8, 8),
        )


def build_pipeline(pipeline: beam.Pipeline, *, input_file: str, predictions_file: str) -> None:
    """Add the steps from the CSV file to the file of predictions.

    Args:
      pipeline: pipeline that gets the steps.
      input_file: path of the CSV file, compressed or not, in any file system that Beam reads.
      predictions_file: path of a file of JSON lines; one file on each runner.
    """
    # Not split, since a line's number is its row's id.
    _ = (
        pipeline
        | "Find" >> fileio.MatchFiles(input_file)
        | "Open" >> fileio.ReadMatches()
        | "Parse" >> beam.FlatMap(lambda file: parse_digits(file.read_utf8().splitlines()))
        | "LearnAndScore"
        >> RunTFScript(
            main_script_file=str(SCRIPT),
            input_schema=INPUT_SCHEMA,
            output_schema=OUTPUT_SCHEMA,
            user_params=USER_PARAMS,
            env={"TF_CPP_MIN_LOG_LEVEL": "3"},  # without this, TensorFlow logs an error that there is no GPU
        )
        | "ToJson" >> beam.Map(lambda row: json.dumps(row._asdict()))
        | "Write" >> beam.io.WriteToText(predictions_file, shard_name_template="", num_shards=1)
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline, then print and draw the accuracy; the command line's function."""
    arguments, beam_arguments = _parse_arguments(argv)
    try:  # before the pipeline runs: a missing module should not be found after a long run
        from pipelines import digits_report
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}. The report needs matplotlib: pip install 'beam_tfscript[demo]'") from error

    predictions_file = FileSystems.join(arguments.output, "predictions.jsonl")
    picture_file = FileSystems.join(arguments.output, "confusion.png")
    with beam.Pipeline(options=PipelineOptions(beam_arguments)) as pipeline:
        build_pipeline(pipeline, input_file=arguments.input, predictions_file=predictions_file)

    predictions = [digits_report.Prediction(**json.loads(line)) for line in _read_lines(predictions_file)]
    with FileSystems.create(picture_file) as file:
        digits_report.draw_report(predictions, _read_images(arguments.input), file)
    print(digits_report.format_accuracy(predictions))
    print()
    print(f"predictions  {predictions_file}")
    print(f"picture      {picture_file}")


def _parse_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.digits",
        description="Learns handwritten digits and reads those it has not seen, in a Beam pipeline.",
        epilog="All other options are Beam's own, such as --runner.",
        allow_abbrev=False,  # otherwise Beam's --in… and --out… options would count as these
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="directory of all results")
    parser.add_argument("--input", default=str(INPUT), metavar="FILE", help="CSV of digits (default: %(default)s)")
    return parser.parse_known_args(argv)


def _read_images(path: str) -> dict[int, np.ndarray]:
    return {row.id: row.image for row in parse_digits(_read_lines(path))}


def _read_lines(path: str) -> list[str]:
    # By Beam's file systems, as the files may be remote; they decompress too.
    with FileSystems.open(path) as file:
        return file.read().decode("utf-8").splitlines()


if __name__ == "__main__":
    main()

"""Beam pipeline that trains a model on handwritten digits, publishes it, and scores digits that it has not seen.

    python -m pipelines.digits_model --output DIR [--input FILE] [Beam's own options, such as --runner]

In: a CSV file, 64 pixels and a digit per line. Out, in DIR: `model/1/`, a SavedModel for TensorFlow Serving;
`scores.jsonl`, with one line for each digit that was held out from training; `learning.png`, the training's loss and
accuracy. A table of the accuracy goes to standard output.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from beam_tfscript import RunTFScript, TrainTFScript
from pipelines.digits import INPUT, INPUT_SCHEMA, parse_digits

__all__ = ["build_pipeline", "main"]

SCRIPTS = Path(__file__).resolve().parent / "scripts"
OUTPUT_SCHEMA = "id bigint, label bigint, predicted bigint, confidence float"
USER_PARAMS = {"epochs": 20, "seed": 1}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}  # without this, TensorFlow logs an error that there is no GPU


def build_pipeline(pipeline: beam.Pipeline, *, input_file: str, output: str) -> None:
    """Add the steps from the CSV file to the model, its training's history, and the scores.

    Args:
      pipeline: pipeline that gets the steps.
      input_file: path of the CSV file, compressed or not, in any file system that Beam reads.
      output: path of the directory of all results, in any file system that the workers share.
    """
    model_dir = FileSystems.join(output, "model")
    rows = (
        pipeline
        | "Find" >> fileio.MatchFiles(input_file)
        | "Open" >> fileio.ReadMatches()
        | "Parse" >> beam.FlatMap(lambda file: parse_digits(file.read_utf8().splitlines()))
    )
    model = (
        rows
        | "Seen" >> beam.Filter(lambda row: row.training)
        | "Train"
        >> TrainTFScript(
            main_script_file=str(SCRIPTS / "digits_train.py"),
            model_dir=model_dir,
            input_schema=INPUT_SCHEMA,
            selected_cols=["label", "image"],
            user_params=USER_PARAMS,
            env=QUIET,
        )
    )
    scores = (
        rows
        | "Unseen" >> beam.Filter(lambda row: not row.training)
        | "Score"
        >> RunTFScript(
            main_script_file=str(SCRIPTS / "score_saved_model.py"),
            input_schema=INPUT_SCHEMA,
            output_schema=OUTPUT_SCHEMA,
            user_params={"model_dir": model_dir},
            # Not read by the script. A side input makes the scoring wait until the model is published.
            side_inputs={"model": model},
            env=QUIET,
        )
    )
    for name, lines in (("history", model | beam.Map(lambda made: made.history)), ("scores", scores | _to_json())):
        _ = lines | f"Write {name}" >> beam.io.WriteToText(
            FileSystems.join(output, f"{name}.jsonl"), shard_name_template="", num_shards=1
        )


def _to_json() -> beam.PTransform:
    return "ToJson" >> beam.Map(lambda row: json.dumps(row._asdict()))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline, then print and draw its accuracy; the command line's function."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.digits_model",
        description="Trains a model on digits, publishes it, and scores digits it has not seen, in one pipeline.",
        epilog="All other options are Beam's own, such as --runner.",
        allow_abbrev=False,  # otherwise Beam's --in… and --out… options would count as these
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="directory of all results")
    parser.add_argument("--input", default=str(INPUT), metavar="FILE", help="CSV of digits (default: %(default)s)")
    arguments, beam_arguments = parser.parse_known_args(argv)
    try:  # before the pipeline runs: a missing module should not be found after a long run
        from pipelines import digits_report
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}. The report needs matplotlib: pip install 'beam_tfscript[demo]'") from error

    # An absolute path: the scripts read the model, and have other working directories.
    output = arguments.output if "://" in arguments.output else os.path.abspath(arguments.output)
    with beam.Pipeline(options=PipelineOptions(beam_arguments)) as pipeline:
        build_pipeline(pipeline, input_file=arguments.input, output=output)

    history = json.loads(_read_lines(FileSystems.join(output, "history.jsonl"))[0])
    scores = _read_lines(FileSystems.join(output, "scores.jsonl"))
    picture_file = FileSystems.join(output, "learning.png")
    with FileSystems.create(picture_file) as file:
        digits_report.draw_learning(history, file)
    print(digits_report.format_accuracy([digits_report.Prediction(**json.loads(line)) for line in scores]))
    print()
    print(f"model    {FileSystems.join(output, 'model')}")
    print(f"scores   {FileSystems.join(output, 'scores.jsonl')}")
    print(f"picture  {picture_file}")


def _read_lines(path: str) -> list[str]:
    with FileSystems.open(path) as file:
        return file.read().decode("utf-8").splitlines()


if __name__ == "__main__":
    main()

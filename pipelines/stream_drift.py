"""Beam pipeline whose TensorFlow script reads and learns digits as they arrive, and reports when they change.

    python -m pipelines.stream_drift --input FOLDER --output DIR [Beam's own options, such as --runner]
    python -m pipelines.stream_feed FOLDER            # in another terminal: writes files into the folder

In: files that are renamed into a folder, of lines such as `{"at": 1700000000.5, "label": 3, "image": [64 pixels]}`.
Out: for each window a line on standard output and a JSON file in DIR. They have the share of digits that were read
right, each before the model learned it, and the distance from earlier windows' digits. The model is kept in DIR/model;
a restarted pipeline continues with it.

The default runner is Beam's PrismRunner, on this machine. Remote workers need the package `pipelines` beside
`beam_tfscript`, and FOLDER and DIR on a file system that all workers see.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.transforms.window import FixedWindows

from beam_tfscript import RunTFScript
from pipelines.stream_folder import END, WatchFolder

__all__ = ["build_pipeline", "main", "parse_line", "report_drift"]

SCRIPT = Path(__file__).resolve().parent / "scripts" / "stream_drift.py"

INPUT_SCHEMA = "label bigint not null, image tensor<float>(8, 8) not null"
OUTPUT_SCHEMA = """
    start float64, seconds float, rows bigint, accuracy float, loss float, psi float, feature string,
    drifted boolean, learned bigint
"""


def parse_line(line: str) -> tuple[float, dict]:
    """Parse a line of JSON to (event time in seconds, row)."""
    values = json.loads(line)
    image = np.array(values["image"], dtype=np.float32).reshape(8, 8)
    return float(values["at"]), {"label": int(values["label"]), "image": image}


def report_drift(
    rows: beam.PCollection, *, model_dir: str, window_s: float, lateness_s: float, **more: Any
) -> beam.PCollection:
    """Add the steps from rows with event times to one report per window.

    Args:
      rows: dicts of `label` and `image`.
      model_dir: path of the directory that keeps the model between windows.
      window_s: length of a window in seconds.
      lateness_s: seconds after its window's end in which a row is still accepted.
      **more: further arguments of the transform.
    """
    return (
        rows
        | "Window" >> beam.WindowInto(FixedWindows(window_s), allowed_lateness=lateness_s)
        # One shard, as there is one model. One run learns a window's rows; another run learns those that come late.
        | "LearnAndWatch"
        >> RunTFScript(
            main_script_file=str(SCRIPT),
            input_schema=INPUT_SCHEMA,
            output_schema=OUTPUT_SCHEMA,
            user_params={"model_dir": model_dir},
            feed="stream",
            env={"TF_CPP_MIN_LOG_LEVEL": "3"},  # without this, TensorFlow logs an error that there is no GPU
            **more,
        )
    )


def build_pipeline(pipeline: beam.Pipeline, options: argparse.Namespace) -> None:
    """Add the steps from the folder to the reports.

    Args:
      pipeline: pipeline that gets the steps.
      options: options of the command line.
    """
    rows = pipeline | "Watch" >> WatchFolder(
        options.input, parse=parse_line, max_delay_s=options.max_delay, poll_s=options.poll
    )
    model_dir = FileSystems.join(options.output, "model")
    reports = report_drift(rows, model_dir=model_dir, window_s=options.window, lateness_s=options.lateness)
    _ = reports | "Save" >> beam.Map(_save, options.output)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline; the command line's function."""
    options, beam_arguments = _parse_arguments(argv)
    pipeline_options = PipelineOptions(["--runner=PrismRunner", "--streaming", *beam_arguments])
    _check_runner(pipeline_options.view_as(StandardOptions).runner)
    with beam.Pipeline(options=pipeline_options) as pipeline:
        build_pipeline(pipeline, options)


def format_report(report: dict[str, Any]) -> str:
    """Return a report as one line."""
    start = time.strftime("%H:%M:%S", time.gmtime(report["start"]))
    psi = "first window" if report["psi"] is None else f"PSI {report['psi']:5.2f} ({report['feature']})"
    line = (
        f"{start} UTC  {report['seconds']:g} s  {report['rows']:5} digits  {100 * report['accuracy']:5.1f} % right  "
        f"loss {report['loss']:5.2f}  {psi}"
    )
    return line + ("  DRIFT" if report["drifted"] else "")


def _check_runner(name: str) -> None:
    if "Direct" in name or "FnApi" in name:
        raise SystemExit(
            f"--runner={name} reads the folder only once: Beam's own engines do not support unbounded sources. "
            "Leave it out for PrismRunner, which Beam downloads (or --prism_location=…), or use FlinkRunner."
        )


def _save(row: Any, directory: str) -> None:
    report = row._asdict()
    print(format_report(report), flush=True)
    # A retry writes the same name again, so the write is idempotent. Late rows get another name.
    name = f"window-{report['start']:.0f}-learned-{report['learned']}.json"
    with FileSystems.create(FileSystems.join(directory, name)) as file:
        file.write(json.dumps(report).encode())


def _parse_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.stream_drift",
        description="Reads and learns digits as they arrive in a folder, and reports when they change.",
        epilog=f"A file called {END} in the folder ends the stream. All other options are Beam's, such as --runner.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--input", required=True, metavar="FOLDER", help="folder in which files are renamed to NAME.jsonl"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="directory of all results, and of the model")
    parser.add_argument(
        "--window", type=float, default=10, metavar="S", help="length of a window (default: %(default)s)"
    )
    parser.add_argument("--poll", type=float, default=1, metavar="S", help="time between polls (default: %(default)s)")
    parser.add_argument(
        "--max_delay", type=float, default=1, metavar="S",
        help="time by which a row may be older than the newest and still be in time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--lateness", type=float, default=60, metavar="S",
        help="time after their window's end in which rows are still accepted (default: %(default)s)",
    )  # fmt: skip
    return parser.parse_known_args(argv)


if __name__ == "__main__":
    main()

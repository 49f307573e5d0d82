"""Has a TensorFlow script read and learn digits as they arrive, and tell, window by window, when they change.

    python -m pipelines.stream_drift --input FOLDER --output DIR [Beam's own options, such as --runner]
    python -m pipelines.stream_feed FOLDER            # in another terminal: drops files there

In: files that are renamed into a folder, of lines such as `{"at": 1700000000.5, "label": 3, "image": [64 pixels]}`.
Out: for each window a line on standard output and a JSON file in DIR. They say how many of its digits were read right
by what was learned before, and how far they are from those of the windows before. The model is kept in DIR/model, and
goes on from there when the pipeline is started again.

Without `--runner` it is Beam's PrismRunner, on this machine. Workers elsewhere need the package `pipelines` beside
`beam_tfscript`, and FOLDER and DIR on a file system that all of them see.
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
    """A line of JSON -> (event time in seconds, row)."""
    values = json.loads(line)
    image = np.array(values["image"], dtype=np.float32).reshape(8, 8)
    return float(values["at"]), {"label": int(values["label"]), "image": image}


def report_drift(
    rows: beam.PCollection, *, model_dir: str, window_s: float, lateness_s: float, **more: Any
) -> beam.PCollection:
    """The steps from rows with event times to one report a window.

    Args:
      rows: dicts of `label` and `image`.
      model_dir: where the model is kept between windows.
      window_s: length of a window.
      lateness_s: how long after its window's end a row is still taken.
      **more: further arguments of the transform.
    """
    return (
        rows
        | "Window" >> beam.WindowInto(FixedWindows(window_s), allowed_lateness=lateness_s)
        # One shard, for there is one model. A window's rows are learned by one run; those that come later, by another.
        | "LearnAndWatch"
        >> RunTFScript(
            main_script_file=str(SCRIPT),
            input_schema=INPUT_SCHEMA,
            output_schema=OUTPUT_SCHEMA,
            user_params={"model_dir": model_dir},
            feed="stream",
            env={"TF_CPP_MIN_LOG_LEVEL": "3"},  # or TensorFlow logs it as an error that there is no GPU
            **more,
        )
    )


def build_pipeline(pipeline: beam.Pipeline, options: argparse.Namespace) -> None:
    """Adds the steps from the folder to the reports.

    Args:
      pipeline: where the steps are added.
      options: the command line's.
    """
    rows = pipeline | "Watch" >> WatchFolder(
        options.input, parse=parse_line, max_delay_s=options.max_delay, poll_s=options.poll
    )
    model_dir = FileSystems.join(options.output, "model")
    reports = report_drift(rows, model_dir=model_dir, window_s=options.window, lateness_s=options.lateness)
    _ = reports | "Save" >> beam.Map(_save, options.output)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options, beam_arguments = _parse_arguments(argv)
    pipeline_options = PipelineOptions(["--runner=PrismRunner", "--streaming", *beam_arguments])
    _check_runner(pipeline_options.view_as(StandardOptions).runner)
    with beam.Pipeline(options=pipeline_options) as pipeline:
        build_pipeline(pipeline, options)


def format_report(report: dict[str, Any]) -> str:
    """A report as a line."""
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
            f"--runner={name} looks at the folder once and no more: Beam's own engines have no sources that go on. "
            "Leave it out for PrismRunner, which Beam downloads (or --prism_location=…), or name a Flink."
        )


def _save(row: Any, directory: str) -> None:
    report = row._asdict()
    print(format_report(report), flush=True)
    # A repeat after a fault has the same name, and rows that came late have another.
    name = f"window-{report['start']:.0f}-learned-{report['learned']}.json"
    with FileSystems.create(FileSystems.join(directory, name)) as file:
        file.write(json.dumps(report).encode())


def _parse_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.stream_drift",
        description="Reads and learns digits as they arrive in a folder, and tells when they change.",
        epilog=f"A file called {END} in the folder ends the stream. All other options are Beam's, such as --runner.",
        allow_abbrev=False,
    )
    parser.add_argument("--input", required=True, metavar="FOLDER", help="where files are renamed to NAME.jsonl")
    parser.add_argument("--output", required=True, metavar="DIR", help="directory of all results, and of the model")
    parser.add_argument(
        "--window", type=float, default=10, metavar="S", help="length of a window (default: %(default)s)"
    )
    parser.add_argument("--poll", type=float, default=1, metavar="S", help="time between looks (default: %(default)s)")
    parser.add_argument(
        "--max_delay", type=float, default=1, metavar="S",
        help="how much older than the newest a row may be and still be in time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--lateness", type=float, default=60, metavar="S",
        help="how long rows are taken after their window's end; they are reported apart (default: %(default)s)",
    )  # fmt: skip
    return parser.parse_known_args(argv)


if __name__ == "__main__":
    main()

"""Runs a transform for real and brings its output back, with windows and timestamps, from any engine."""

from __future__ import annotations

import os
import pathlib
import pickle
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

SCRIPTS = pathlib.Path(__file__).parent / "scripts"
# The interpreter that scripts run in: that of the tests, or the one that the variable names.
SCRIPTS_PYTHON = os.environ.get("BEAM_TFSCRIPT_TEST_PYTHON") or sys.executable

ENGINES = {
    "in_memory": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "bundle_based": "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner",
    # By way of a job server, tests/engines.
    "prism": "PortableRunner",
    "flink": "PortableRunner",
    "spark": "PortableRunner",
}


class Output(NamedTuple):
    """One output element, with where in event time it is (seconds)."""

    row: Any
    window: Any
    timestamp: float


class SaveOutputs(beam.DoFn):
    """Writes the elements of a bundle to a file, which works wherever the worker is on this machine."""

    def __init__(self, directory: str):
        self._directory = directory

    def start_bundle(self):
        self._outputs = []

    def process(self, row, window=beam.DoFn.WindowParam, timestamp=beam.DoFn.TimestampParam):
        value = row._asdict() if hasattr(row, "_asdict") else row
        bounds = (float(window.start), float(window.end)) if hasattr(window, "start") else None
        self._outputs.append((value, bounds, timestamp.micros / 1e6))

    def finish_bundle(self):
        name = os.path.join(self._directory, uuid.uuid4().hex)
        with open(name + ".part", "wb") as file:
            pickle.dump(self._outputs, file)
        os.rename(name + ".part", name + ".done")


class Runner:
    """Runs pipelines on one engine.

    Attributes:
      metrics: after a run, name -> counter value or distribution.
    """

    def __init__(self, engine: str, directory: pathlib.Path, engine_options: Iterable[str] = ()):
        self.engine = engine
        self.metrics: dict[str, Any] = {}
        self._directory = directory
        self._engine_options = tuple(engine_options)

    def run(
        self,
        transform: beam.PTransform,
        rows: Iterable[Any] | None = None,
        *,
        before: Callable[[beam.PCollection], beam.PCollection] | None = None,
        options: Iterable[str] = (),
    ) -> list[dict]:
        """The output rows as dicts, in any order."""
        return [output.row for output in self.outputs(transform, rows, before=before, options=options)["good"]]

    def outputs(self, transform, rows=None, *, before=None, options=()) -> dict[str, list[Output]]:
        """Tag -> output elements; the only output's tag is `good`.

        Args:
          transform: what to run.
          rows: the input; None applies the transform to the pipeline.
          before: applied to the input PCollection first.
          options: pipeline options.
        """
        directory = self._directory / uuid.uuid4().hex
        arguments = [*self._engine_options, *options]
        with_metrics = beam.Pipeline(runner=ENGINES[self.engine], options=PipelineOptions(arguments))
        source = with_metrics if rows is None else with_metrics | "Rows" >> beam.Create(list(rows))
        if before is not None:
            source = before(source)
        result = source | "Script" >> transform
        collections = {"good": result} if isinstance(result, beam.PCollection) else result._asdict()
        for tag, collection in collections.items():
            (directory / tag).mkdir(parents=True)
            _ = collection | f"Save {tag}" >> beam.ParDo(SaveOutputs(str(directory / tag)))
        finished = with_metrics.run()
        finished.wait_until_finish()
        self._keep_metrics(finished)
        return {tag: _load(directory / tag) for tag in collections}

    def _keep_metrics(self, finished) -> None:
        found = finished.metrics().query()
        for entry in (*found["counters"], *found["distributions"]):
            name = entry.key.metric.name
            value = entry.committed if entry.committed is not None else entry.attempted
            if name in self.metrics and isinstance(value, int):
                value += self.metrics[name]
            self.metrics[name] = value


def _load(directory: pathlib.Path) -> list[Output]:
    outputs = []
    for name in directory.glob("*.done"):
        outputs += [Output(*fields) for fields in pickle.loads(name.read_bytes())]
    return outputs


def script(name: str) -> str:
    """The path of one of the test scripts."""
    return str(SCRIPTS / name)

"""Pipelines that an engine cannot run, refused while they are built."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.interactive.interactive_runner import InteractiveRunner
from apache_beam.runners.portability.spark_runner import SparkRunner
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.window import FixedWindows

from beam_tfscript import RunTFScript, TrainTFScript
from beam_tfscript.errors import ArgumentError
from tests.running import script

SPARK = PipelineOptions(["--runner=SparkRunner", "--spark_master_url=spark://master:7077"])


def scored(rows, **arguments):
    return rows | RunTFScript(script("echo.py"), "id string", input_schema="id string", **arguments)


def ticking(pipeline):
    """Rows of a source that waits for the clock, in windows."""
    ticks = pipeline | "Ticks" >> PeriodicImpulse(fire_interval=1)
    return ticks | beam.Map(lambda at: {"id": str(at)}).with_output_types(dict) | beam.WindowInto(FixedWindows(5))


@pytest.mark.parametrize("feed", [None, "dataset", "bundles", "stream"])
def test_unbounded_input_is_refused_on_spark_with_the_reason(feed):
    with pytest.raises(ArgumentError, match=r"Ticks.*SparkRunner runs only bounded input.*FlinkRunner") as refused:
        scored(ticking(beam.Pipeline(options=SPARK)), feed=feed)
    assert "micro-batch" in str(refused.value)


def test_training_on_unbounded_input_is_refused_on_spark(tmp_path):
    with pytest.raises(ArgumentError, match="SparkRunner runs only bounded input"):
        ticking(beam.Pipeline(options=SPARK)) | TrainTFScript(
            script("train.py"), str(tmp_path), input_schema="id string", feed="stream", entry="place"
        )


def test_unbounded_input_is_refused_on_spark_in_a_notebook_too():
    with pytest.raises(ArgumentError, match="SparkRunner runs only bounded input"):
        scored(ticking(beam.Pipeline(runner=InteractiveRunner(SparkRunner()))))


@pytest.mark.parametrize("feed", ["dataset", "bundles", "stream"])
def test_bounded_input_is_taken_on_spark(feed):
    assert scored(beam.Pipeline(options=SPARK) | beam.Create([{"id": "a"}]), feed=feed).is_bounded


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner", "PrismRunner"])
def test_unbounded_input_is_taken_on_other_runners(runner):
    assert not scored(ticking(beam.Pipeline(options=PipelineOptions([f"--runner={runner}"])))).is_bounded

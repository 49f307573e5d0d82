"""Beam pipeline that runs a TensorFlow script on the records of a Kafka topic, and writes its rows to another topic.

    python -m pipelines.stream_kafka --bootstrap_servers HOST:9092 --topic IN --output_topic OUT --script score.py \\
        --input_schema "id string, x float" --output_schema "id string, score float" [Beam's own options]

In: records whose values are JSON objects, such as `{"id": "a", "x": 1.5}`; a record's timestamp is its event time.
Out: records whose values are JSON objects, with the columns of the output schema.

Beam reads and writes Kafka by steps in Java. `--java_steps` says where these run: docs/submit.md has the details.
"""

# No postponed annotations here: Beam reads those of the configuration as a schema.
import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka, default_io_expansion_service
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.external import (
    ExternalTransform,
    JavaJarExpansionService,
    NamedTupleBasedPayloadBuilder,
)
from apache_beam.transforms.window import FixedWindows, GlobalWindows

from beam_tfscript import RunTFScript

__all__ = ["ReadRecords", "build_pipeline", "main", "make_parser", "parse_record"]

_LOGGER = logging.getLogger(__name__)

# Flink runs the source itself, and keeps the offsets in its checkpoints. Without this experiment, the source is a
# splittable DoFn that hardly lets Flink complete a checkpoint (seen with Beam 2.62's runner).
EMBEDDED = ("--defaultEnvironmentType=EMBEDDED", "--experiments=use_deprecated_read")


class _ReadConfiguration(NamedTuple):
    """Arguments of Beam's Kafka source that expansion services of all versions know."""

    consumer_config: dict[str, str]
    topics: list[str]
    key_deserializer: str
    value_deserializer: str
    commit_offset_in_finalize: bool
    timestamp_policy: str


class ReadRecords(ExternalTransform):
    """Keys and values, as bytes, of a topic's records, at the records' timestamps.

    Beam's `ReadFromKafka` sends all of its arguments, and so needs an expansion service of its own version. Flink's
    runner, and the service beside it, may be older.

    Args:
      bootstrap_servers: addresses of brokers, `HOST:PORT,HOST:PORT`.
      topic: name of the topic.
      start: where to begin without a checkpoint: `"earliest"` or `"latest"` record.
      expansion_service: address of an expansion service, or an object that starts one.
    """

    def __init__(self, bootstrap_servers: str, topic: str, *, start: str, expansion_service: Any):
        deserializer = ReadFromKafka.byte_array_deserializer
        configuration = _ReadConfiguration(
            consumer_config={"bootstrap.servers": bootstrap_servers, "auto.offset.reset": start},
            topics=[topic],
            key_deserializer=deserializer,
            value_deserializer=deserializer,
            commit_offset_in_finalize=False,
            timestamp_policy=ReadFromKafka.create_time_policy,
        )
        super().__init__(
            ReadFromKafka.URN_WITHOUT_METADATA, NamedTupleBasedPayloadBuilder(configuration), expansion_service
        )


def parse_record(record: tuple[bytes | None, bytes | None]) -> Iterator[dict[str, Any]]:
    """Yield the row of a record. A record that is no JSON object is logged, counted, and left out."""
    _, value = record
    try:
        row = json.loads(value or b"null")
        if not isinstance(row, dict):
            raise ValueError("the value is no JSON object")
    except ValueError as error:
        Metrics.counter("stream_kafka", "bad_records").inc()
        _LOGGER.warning("a record is left out: %s: %s", error, (value or b"")[:100])
        return
    yield row


def format_record(row: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return a row as a record without a key."""
    return b"", json.dumps(row, default=lambda value: value.tolist()).encode()


def build_pipeline(pipeline: beam.Pipeline, options: argparse.Namespace, **more: Any) -> None:
    """Add the steps from one topic to the other.

    Args:
      pipeline: pipeline that gets the steps.
      options: options of the command line.
      **more: further arguments of the transform.
    """
    windows = FixedWindows(options.window) if options.window else GlobalWindows()
    with _start_expansion_service(options) as service:
        _ = (
            pipeline
            | "Read"
            >> ReadRecords(options.bootstrap_servers, options.topic, start=options.start, expansion_service=service)
            | "Parse" >> beam.FlatMap(parse_record).with_output_types(dict)
            # A partition that is read to its end takes the time of its clock as its watermark. Records that are
            # written then may be late: they are older than the moment at which Kafka has them.
            | "Window" >> beam.WindowInto(windows, allowed_lateness=options.lateness)
            | "Run"
            >> RunTFScript(
                main_script_file=options.script,
                input_schema=options.input_schema,
                output_schema=options.output_schema,
                output_as="dict",
                feed=options.feed,
                **more,
            )
            | "Format" >> beam.Map(format_record).with_output_types(tuple[bytes, bytes])
            | "Write"
            >> WriteToKafka(
                {"bootstrap.servers": options.bootstrap_servers}, options.output_topic, expansion_service=service
            )
        )


def _start_expansion_service(options: argparse.Namespace) -> JavaJarExpansionService:
    """Return what starts the service that translates the Java steps, once for both of them."""
    arguments = EMBEDDED if options.java_steps == "embedded" else ()
    if options.expansion_service:
        return JavaJarExpansionService(options.expansion_service, append_args=list(arguments))
    return default_io_expansion_service(append_args=list(arguments))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline; the command line's function."""
    options, beam_arguments = make_parser().parse_known_args(argv)
    with beam.Pipeline(options=PipelineOptions(["--streaming", *beam_arguments])) as pipeline:
        build_pipeline(pipeline, options)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the arguments that it leaves are Beam's."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.stream_kafka",
        description="Runs a TensorFlow script on the records of a Kafka topic, and writes its rows to another topic.",
        epilog="All other options are Beam's, such as --runner.",
        allow_abbrev=False,
    )
    parser.add_argument("--bootstrap_servers", required=True, metavar="HOST:PORT", help="addresses of Kafka's brokers")
    parser.add_argument("--topic", required=True, help="topic whose records' values are JSON objects")
    parser.add_argument("--output_topic", required=True, metavar="TOPIC", help="topic of the script's rows")
    parser.add_argument("--script", required=True, metavar="FILE", help="the script; its entry is main(config)")
    parser.add_argument("--input_schema", required=True, metavar="COLUMNS", help='such as "id string, x float"')
    parser.add_argument("--output_schema", required=True, metavar="COLUMNS", help="columns of the script's rows")
    parser.add_argument("--feed", choices=["bundles", "stream"], default="stream", help="(default: %(default)s)")
    parser.add_argument(
        "--window", type=float, default=0, metavar="S", help="length of a window; 0 for one that never ends (default)"
    )
    parser.add_argument(
        "--lateness", type=float, default=60, metavar="S",
        help="time after their window's end in which records are still accepted (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--start", choices=["earliest", "latest"], default="latest", help="record to begin with (default: %(default)s)"
    )
    parser.add_argument(
        "--java_steps", choices=["docker", "embedded"], default="docker",
        help="where the Java steps run: in Beam's container, or within Flink, whose class path then needs Beam's Kafka "
        "source (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--expansion_service", metavar="HOST:PORT|JAR",
        help="service that translates the Java steps; Beam downloads and starts its own if this is missing",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    main()

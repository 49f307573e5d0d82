"""One job of `benchmarks.files`, in the process that runs this module: files of rows and a model to files of scores.

The plain scripts are what one would write without a pipeline: they read, score and write batch by batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import workload

SCRIPT = os.path.join(os.path.dirname(__file__), "scripts", "score_batches.py")
BATCH_SIZE = 1024


@dataclasses.dataclass(frozen=True)
class Job:
    """Arguments of a job.

    Attributes:
      rows: path of the file of rows.
      model: path of the Keras model.
      scores: prefix of the files to write.
    """

    rows: str
    model: str
    scores: str


def run_plain_tfrecord(job: Job) -> None:
    """Score a TFRecord file without a pipeline."""
    import tensorflow as tf

    features = {
        "id": tf.io.FixedLenFeature([], tf.string),
        "x": tf.io.FixedLenFeature([workload.FEATURE_COUNT], tf.float32),
    }
    batches = (
        tf.data.TFRecordDataset(job.rows)
        .batch(BATCH_SIZE)
        .map(lambda records: tf.io.parse_example(records, features), num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    score = _scorer(job.model)
    with tf.io.TFRecordWriter(job.scores + ".tfrecord") as writer:
        for batch in batches:
            for name, value in zip(batch["id"].numpy().tolist(), score(batch["x"]).numpy().tolist()):
                feature = {
                    "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
                    "score": tf.train.Feature(float_list=tf.train.FloatList(value=[value])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def run_plain_parquet(job: Job) -> None:
    """Score a Parquet file without a pipeline."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tensorflow as tf

    score = _scorer(job.model)
    schema = pa.schema([("id", pa.string()), ("score", pa.float32())])
    with pq.ParquetWriter(job.scores + ".parquet", schema) as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in pq.ParquetFile(job.rows).iter_batches(BATCH_SIZE):
            x = batch["x"].flatten().to_numpy().reshape(-1, workload.FEATURE_COUNT)
            waiting.append(pa.record_batch([batch["id"], pa.array(score(tf.constant(x)).numpy())], schema=schema))
            if len(waiting) == 64:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


def run_bundles_tfrecord(job: Job) -> None:
    """Score a TFRecord file through `bundles`, as chunks of Examples."""
    from beam_tfscript import ReadExamples, WriteExamples

    with _pipeline() as pipeline:
        scores = pipeline | ReadExamples(job.rows) | _transform(job, "examples")
        scores | WriteExamples(job.scores)


def run_bundles_parquet(job: Job) -> None:
    """Score a Parquet file through `bundles`, as Arrow batches."""
    import apache_beam as beam

    from beam_tfscript import WriteParquet

    with _pipeline() as pipeline:
        rows = pipeline | beam.io.ReadFromParquetBatched(job.rows)
        rows | _transform(job, "record_batch") | WriteParquet(job.scores, workload.OUTPUT_SCHEMA)


def run_rows_tfrecord(job: Job) -> None:
    """Score a TFRecord file through `bundles`, with an element per row."""
    import apache_beam as beam

    with _pipeline() as pipeline:
        rows = pipeline | beam.io.ReadFromTFRecord(job.rows)
        rows | _transform(job, "example") | beam.io.WriteToTFRecord(job.scores, file_name_suffix=".tfrecord")


JOBS: dict[tuple[str, str], Callable[[Job], None]] = {
    ("tfrecord", "plain"): run_plain_tfrecord,
    ("tfrecord", "bundles"): run_bundles_tfrecord,
    ("tfrecord", "rows"): run_rows_tfrecord,
    ("parquet", "plain"): run_plain_parquet,
    ("parquet", "bundles"): run_bundles_parquet,
}


def read_scores(paths: list[str]) -> Iterator[tuple[list[bytes], list[float]]]:
    """Yield the ids and the scores of each file that a job has written."""
    import pyarrow.parquet as pq

    from beam_tfscript.data import tfrecord
    from beam_tfscript.data.examples import ExampleDecoder
    from beam_tfscript.data.schema import Schema

    decoder = ExampleDecoder(Schema.parse(workload.OUTPUT_SCHEMA))
    for path in paths:
        rows = pq.read_table(path) if path.endswith(".parquet") else decoder.decode(tfrecord.read(path))
        yield [name.encode() for name in rows["id"].to_pylist()], rows["score"].to_pylist()


def _scorer(model_path: str) -> Any:
    import tensorflow as tf

    model = tf.keras.models.load_model(model_path)

    @tf.function(reduce_retracing=True)
    def score(x):
        return model(x, training=False)[:, 0]

    return score


def _transform(job: Job, output_as: str) -> Any:
    from beam_tfscript import RunTFScript

    return RunTFScript(
        main_script_file=SCRIPT,
        input_schema=workload.INPUT_SCHEMA,
        output_schema=workload.OUTPUT_SCHEMA,
        output_as=output_as,
        feed="bundles",
        user_params={"model": job.model, "batch_size": BATCH_SIZE},
        # TensorFlow chooses the number of threads, as in the plain script.
        intra_op_parallelism=0,
    )


def _pipeline() -> Any:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    # Not DirectRunner, which may choose another engine.
    return beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))


def main(argv: list[str] | None = None) -> None:
    """Run the job that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("format", choices=sorted({file_format for file_format, _ in JOBS}))
    parser.add_argument("contender", choices=sorted({contender for _, contender in JOBS}))
    for field in dataclasses.fields(Job):
        parser.add_argument(f"--{field.name}", required=True)
    arguments = vars(parser.parse_args(argv))
    run = JOBS[arguments.pop("format"), arguments.pop("contender")]
    run(Job(**arguments))


if __name__ == "__main__":
    main()

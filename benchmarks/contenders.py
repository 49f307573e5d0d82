"""One contender, in the process that runs this module: a TFRecord file and a model in, a digest out.

Each contender reads the same file by Beam's `ReadFromTFRecord` on the same engine (the in-memory runner), and passes
its rows to the same counting stage. The plain script is not in this module: it is a program of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import apache_beam as beam
from apache_beam.io.tfrecordio import ReadFromTFRecord
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks import workload
from benchmarks.digest import WriteDigest, find_id

SCRIPTS = os.path.join(os.path.dirname(__file__), "scripts")
TUNED_BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class Job:
    """Arguments of a contender.

    Attributes:
      examples: path of the TFRecord file.
      keras_model: path of the Keras model file.
      saved_model: path of the SavedModel whose signature takes serialized Examples.
      batch_size: batch size of this project's script; the peers have their own.
      first_rows: see `digest.Digest.first_checksum`.
      digest: path of the file that gets the digest.
    """

    examples: str
    keras_model: str
    saved_model: str
    batch_size: int
    first_rows: int
    digest: str

    def write_digest(self, pair: Callable[[Any], tuple[Any, float]] | None) -> WriteDigest:
        """Return the last stage of the contender's pipeline."""
        return WriteDigest(self.digest, pair=pair, first_rows=self.first_rows)


def run_beam_read(job: Job) -> None:
    """Run Beam alone, which reads the file and passes each record on."""
    with _pipeline() as pipeline:
        (
            pipeline
            | "Read" >> ReadFromTFRecord(job.examples)
            | "Identity" >> beam.Map(lambda record: record)
            | "Digest" >> job.write_digest(None)
        )


def run_tfscript(job: Job) -> None:
    """Run this project: serialized Examples into `scripts/score.py`, typed rows out."""
    _run_tfscript(job, "score.py", num_workers=1)


def run_tfscript_bundles(job: Job) -> None:
    """Run this project without a shuffle: `scripts/score_batches.py` in feed="bundles"."""
    _run_tfscript(job, "score_batches.py", feed="bundles")


def _run_tfscript(job: Job, script: str, **arguments: Any) -> None:
    from beam_tfscript import RunTFScript

    with _pipeline() as pipeline:
        (
            pipeline
            | "Read" >> ReadFromTFRecord(job.examples)
            | "Score"
            >> RunTFScript(
                main_script_file=os.path.join(SCRIPTS, script),
                input_schema=workload.INPUT_SCHEMA,
                output_schema=workload.OUTPUT_SCHEMA,
                user_params={"model": job.keras_model, "batch_size": job.batch_size},
                # TensorFlow chooses the number of threads, as in the plain script.
                intra_op_parallelism=0,
                **arguments,
            )
            | "Digest" >> job.write_digest(attrgetter("id", "score"))
        )


def run_inference_default(job: Job) -> None:
    """Run Beam's RunInference with TFModelHandlerNumpy and its defaults."""
    from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
    from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy

    with _pipeline() as pipeline:
        (
            pipeline
            | "Read" >> ReadFromTFRecord(job.examples)
            | "Parse" >> beam.Map(_parse_example)
            | "Infer" >> RunInference(KeyedModelHandler(TFModelHandlerNumpy(job.keras_model)))
            | "Digest" >> job.write_digest(lambda keyed: (keyed[0], keyed[1].inference.numpy()[0]))
        )


def run_inference_tuned(job: Job) -> None:
    """Run Beam's RunInference with a compiled model function that also parses a batch of Examples."""
    from apache_beam.ml.inference.base import RunInference

    from benchmarks.tuned_handler import CompiledHandler

    handler = CompiledHandler(job.keras_model, batch_size=TUNED_BATCH_SIZE)
    with _pipeline() as pipeline:
        (
            pipeline
            | "Read" >> ReadFromTFRecord(job.examples)
            | "Infer" >> RunInference(handler)
            | "Digest" >> job.write_digest(lambda result: (find_id(result.example), result.inference))
        )


def run_tfx_bsl(job: Job) -> None:
    """Run tfx-bsl's RunInference on the SavedModel."""
    from tfx_bsl.public.beam import RunInference
    from tfx_bsl.public.proto import model_spec_pb2

    spec = model_spec_pb2.InferenceSpecType(saved_model_spec=model_spec_pb2.SavedModelSpec(model_path=job.saved_model))
    with _pipeline() as pipeline:
        (
            pipeline
            | "Read" >> ReadFromTFRecord(job.examples)
            | "Infer" >> RunInference(spec)
            | "Digest" >> job.write_digest(_pair_of_log)
        )


CONTENDERS = {
    "beam_read": run_beam_read,
    "tfscript": run_tfscript,
    "tfscript_bundles": run_tfscript_bundles,
    "inference_tuned": run_inference_tuned,
    "inference_default": run_inference_default,
    "tfx_bsl": run_tfx_bsl,
}


def _pipeline() -> beam.Pipeline:
    # Not DirectRunner, which may choose another engine.
    return beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))


def _parse_example(record: bytes) -> tuple[bytes, Any]:
    import numpy as np
    import tensorflow as tf

    features = tf.train.Example.FromString(record).features.feature
    return features["id"].bytes_list.value[0], np.array(features["x"].float_list.value, np.float32)


def _pair_of_log(log: Any) -> tuple[bytes, float]:
    predict = log.predict_log
    example = predict.request.inputs["examples"].string_val[0]
    return find_id(example), predict.response.outputs["score"].float_val[0]


def main(argv: list[str] | None = None) -> None:
    """Run the contender that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=sorted(CONTENDERS))
    for field in dataclasses.fields(Job):
        # Postponed annotations are text.
        parser.add_argument(f"--{field.name}", required=True, type=int if field.type == "int" else str)
    arguments = vars(parser.parse_args(argv))
    run = CONTENDERS[arguments.pop("contender")]
    run(Job(**arguments))


if __name__ == "__main__":
    main()

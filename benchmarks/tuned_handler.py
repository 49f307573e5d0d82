"""The tuned peer's model handler: serialized Examples in, scores out, one compiled call per batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf
from apache_beam.ml.inference.base import PredictionResult
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy

from benchmarks.workload import FEATURE_COUNT


class CompiledHandler(TFModelHandlerNumpy):
    """Handler of a Keras model with one `tf.function` that parses the Examples too.

    Args:
      model_uri: path of the Keras model file.
      batch_size: rows per call.
    """

    def __init__(self, model_uri: str, *, batch_size: int):
        super().__init__(model_uri, inference_fn=_infer, min_batch_size=batch_size, max_batch_size=batch_size)

    def load_model(self) -> Any:
        """Load the model, and wrap it."""
        model = super().load_model()
        features = {"x": tf.io.FixedLenFeature([FEATURE_COUNT], tf.float32)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def score(examples: tf.Tensor) -> tf.Tensor:
            return model(tf.io.parse_example(examples, features)["x"], training=False)[:, 0]

        return score


def _infer(
    model: Any, batch: Sequence[bytes], inference_args: dict[str, Any], model_id: str | None = None
) -> Iterable[PredictionResult]:
    scores = model(tf.constant(batch)).numpy()
    return [PredictionResult(example, score, model_id) for example, score in zip(batch, scores, strict=True)]

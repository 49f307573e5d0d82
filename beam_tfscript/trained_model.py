"""What a training gives: one row about a model that is published, or the model itself as rows."""

# Annotations are not postponed here: Beam makes the row's schema of them.
import dataclasses
import json
import os
import typing

import apache_beam as beam

from beam_tfscript.errors import ArgumentError
from beam_tfscript.model_store import check_model_dir
from beam_tfscript.script.uris import local_path, mask_uri


class TrainedModel(typing.NamedTuple):
    """A model that is published.

    Attributes:
      uri: its directory, `model_dir/<version>`.
      version: a number that grows from training to training, and is the same when a training is repeated.
      signatures: JSON: signature -> its `inputs` and `outputs`, name -> dtype and shape.
      dataset_lengths: rows of each worker, the chief first.
      seconds: what the training took, from its processes' start to the model.
      metrics: JSON: the last value of each name that the script gave to `config.report`.
      history: JSON: a list of all that it gave, in order.
      attempt: which try has done it, from 1.
    """

    uri: str
    version: int
    signatures: str
    dataset_lengths: typing.Sequence[int]
    seconds: float
    metrics: str
    history: str
    attempt: int

    @classmethod
    def of(
        cls, uri: str, version: int, signatures: dict, outcome: typing.Any, last: str, course: str
    ) -> "TrainedModel":
        """The row of a training's outcome."""
        lengths = list(outcome.dataset_lengths)
        return cls(uri, version, json.dumps(signatures), lengths, outcome.seconds, last, course, outcome.attempt)


beam.coders.registry.register_coder(TrainedModel, beam.coders.RowCoder)


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What is done with a model, and what lasts when its training is repeated.

    Attributes:
      model_dir: where versions are published; None for the model as rows.
      checkpoint_dir: where the script keeps checkpoints; None for a directory on the worker.
      model_name: what the model is called as rows.
    """

    model_dir: str | None
    checkpoint_dir: str | None
    model_name: str


def check_training(model_dir: str | None, checkpoint_dir: str | None, *, script: str) -> TrainOptions:
    """Checks where a training's model and checkpoints go.

    Args:
      model_dir, checkpoint_dir: the transform's arguments.
      script: the main script's name.

    Raises:
      ArgumentError: one of them cannot be used.
    """
    for name, value in (("model_dir", model_dir), ("checkpoint_dir", checkpoint_dir)):
        if value is not None and (not isinstance(value, str) or not value):
            raise ArgumentError(f"{name} must be a path, a URI or None, got {value!r}.")
    if checkpoint_dir is not None and "@" in checkpoint_dir and local_path(checkpoint_dir) is None:
        raise ArgumentError(
            f"checkpoint_dir must be a URI without keys, since the script's TensorFlow opens it, got "
            f"{mask_uri(checkpoint_dir)!r}: give keys by the environment of the workers."
        )
    # Scripts have a working directory of their own, to which a relative path must not refer.
    if model_dir is not None:
        path = local_path(check_model_dir(model_dir))
        model_dir = model_dir if path is None else os.path.abspath(path)
    if checkpoint_dir is not None:
        path = local_path(checkpoint_dir)
        checkpoint_dir = checkpoint_dir if path is None else os.path.abspath(path)
    return TrainOptions(model_dir, checkpoint_dir, script[: -len(".py")])

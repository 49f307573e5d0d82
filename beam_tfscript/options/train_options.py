"""Arguments of a training: where its model and its checkpoints go, checked while the pipeline is built."""

from __future__ import annotations

import dataclasses
import os

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.uris import local_path, mask_uri
from beam_tfscript.models.model_store import check_model_dir


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

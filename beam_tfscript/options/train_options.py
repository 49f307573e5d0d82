"""Arguments of a training: the directories of its model and its checkpoints, checked while the pipeline is built."""

from __future__ import annotations

import dataclasses
import os

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.uris import local_path, mask_uri
from beam_tfscript.models.model_store import check_model_dir


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Options of a training's model and checkpoints.

    Attributes:
      model_dir: directory in which versions are published; None for the model as rows.
      checkpoint_dir: directory of the script's checkpoints; None for a directory on the worker.
      model_name: name of the model in its rows.
    """

    model_dir: str | None
    checkpoint_dir: str | None
    model_name: str


def check_directories(model_dir: str | None, checkpoint_dir: str | None) -> tuple[str | None, str | None]:
    """Return (model_dir, checkpoint_dir) with local paths made absolute.

    Args:
      model_dir, checkpoint_dir: the transform's arguments, each a path, a URI or None.

    Raises:
      ArgumentError: a directory cannot be used.
    """
    if checkpoint_dir is not None and "@" in checkpoint_dir and local_path(checkpoint_dir) is None:
        raise ArgumentError(
            f"checkpoint_dir must be a URI without keys, since the script's TensorFlow opens it, got "
            f"{mask_uri(checkpoint_dir)!r}: set the keys in the workers' environment."
        )
    # A script has a current directory of its own, to which a relative path must not refer.
    if model_dir is not None:
        path = local_path(check_model_dir(model_dir))
        model_dir = model_dir if path is None else os.path.abspath(path)
    if checkpoint_dir is not None:
        path = local_path(checkpoint_dir)
        checkpoint_dir = checkpoint_dir if path is None else os.path.abspath(path)
    return model_dir, checkpoint_dir

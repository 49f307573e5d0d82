"""Where a training keeps its checkpoints: the same directory for all attempts at a window, removed when one is done."""

from __future__ import annotations

import hashlib
import os
import shutil

from beam_tfscript.staged_script import StagedScript
from beam_tfscript.trained_model import TrainOptions


def make_checkpoint_dir(staged: StagedScript, train: TrainOptions, window: tuple[float, float] | None) -> str:
    """The directory of a training: the one that was given, or one on this worker, which is made.

    Args:
      staged: the script.
      train: the training's arguments.
      window: start and end in seconds, None in the global window.
    """
    if train.checkpoint_dir is not None:
        return train.checkpoint_dir
    path = _own_dir(staged, window)
    os.makedirs(path, exist_ok=True)
    return path


def remove_checkpoint_dir(staged: StagedScript, train: TrainOptions, window: tuple[float, float] | None) -> None:
    """Removes the directory of a training that is done, and whose outputs are taken; one that was given stays.

    Not before: a bundle that fails is repeated, and then goes on from there.
    """
    if train.checkpoint_dir is None:
        shutil.rmtree(_own_dir(staged, window), ignore_errors=True)


def training_token(staged: StagedScript, window: tuple[float, float] | None) -> str:
    """Names the training of a window: the same when the bundle is repeated, by the runner or here."""
    return hashlib.sha256(f"{staged.options.key} {window}".encode()).hexdigest()[:32]


def _own_dir(staged: StagedScript, window: tuple[float, float] | None) -> str:
    return os.path.join(staged.pool.scratch(), f"checkpoints-{training_token(staged, window)}")

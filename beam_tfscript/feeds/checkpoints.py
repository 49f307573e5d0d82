"""Directory of a window's checkpoints, the same for all attempts at a training, and the training's name."""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.files.uris import local_path
from beam_tfscript.options.train_options import TrainOptions

EPOCH = datetime.datetime(1970, 1, 1)


def make_checkpoint_dir(staged: StagedScript, train: TrainOptions, window: tuple[float, float] | None) -> str:
    """Make the checkpoint directory of a training, and return its path.

    It is `train.checkpoint_dir` itself, or a directory on this worker. Windows that end have a directory each in
    `train.checkpoint_dir`, as their trainings may overlap.

    Args:
      staged: the script.
      train: the training's arguments.
      window: start and end in seconds, None in the global window.

    Raises:
      ScriptEnvironmentError: the directory cannot be made.
    """
    path = _own_dir(staged, window)
    if train.checkpoint_dir is not None:
        path = train.checkpoint_dir if window is None else f"{train.checkpoint_dir.rstrip('/')}/{window_name(window)}"
        if local_path(path) is None:
            return path
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise ScriptEnvironmentError(
            f"the training's checkpoint_dir {path} cannot be made: {error}. Give a directory that workers can write to."
        ) from error
    return path


def window_name(window: tuple[float, float]) -> str:
    """Return a directory's name for a window, such as `2026-03-01T10-00-00Z--2026-03-01T11-00-00Z`."""
    return "--".join(map(_time_name, window))


def remove_checkpoint_dir(staged: StagedScript, train: TrainOptions, window: tuple[float, float] | None) -> None:
    """Remove the checkpoints of a training on this worker; a `checkpoint_dir` of the user's stays.

    Must be called when the outputs are taken downstream. If the bundle fails before, it is repeated, and its training
    goes on from these checkpoints.
    """
    if train.checkpoint_dir is None:
        shutil.rmtree(_own_dir(staged, window), ignore_errors=True)


def training_token(staged: StagedScript, window: tuple[float, float] | None) -> str:
    """Return the name of a window's training: the same when the bundle is repeated, by the runner or here."""
    return hashlib.sha256(f"{staged.options.key} {window}".encode()).hexdigest()[:32]


def _time_name(seconds: float) -> str:
    try:
        time = EPOCH + datetime.timedelta(seconds=seconds)
    except OverflowError:  # Beam's least and greatest timestamps
        return f"{seconds:.15g}"
    fraction = f".{time.microsecond:06d}" if time.microsecond else ""
    return f"{time:%Y-%m-%dT%H-%M-%S}{fraction}Z"


def _own_dir(staged: StagedScript, window: tuple[float, float] | None) -> str:
    return os.path.join(staged.pool.scratch(), f"checkpoints-{training_token(staged, window)}")

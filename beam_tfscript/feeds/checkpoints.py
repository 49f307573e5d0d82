"""Directory of a window's checkpoints, the same for all attempts at a training, and the training's name."""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import shutil

from beam_tfscript.errors import ScriptEnvironmentError
from beam_tfscript.feeds.staged_script import StagedScript
from beam_tfscript.files import beam_files
from beam_tfscript.files.shared_directory import cluster_directory
from beam_tfscript.files.uris import local_path, mask_uri
from beam_tfscript.options.train_options import TrainOptions

_LOGGER = logging.getLogger(__name__)

EPOCH = datetime.datetime(1970, 1, 1)


def make_checkpoint_dir(staged: StagedScript, train: TrainOptions, window: tuple[float, float] | None) -> str:
    """Make the checkpoint directory of a training, and return its path.

    It is `train.checkpoint_dir` itself, or a directory on this worker. A cluster on several machines has it in its
    `meeting_dir`, which all of them see. Windows that end have a directory each in
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
    """Remove the checkpoints of a training; a `checkpoint_dir` of the user's stays.

    Must be called when the outputs are taken downstream. If the bundle fails before, it is repeated, and its training
    goes on from these checkpoints.
    """
    if train.checkpoint_dir is not None:
        return
    path = _own_dir(staged, window)
    if local_path(path) is not None:
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        beam_files.remove_tree(path)
    except Exception as error:  # noqa: BLE001 - each file system raises the errors of its own library
        _LOGGER.warning("checkpoints are left in %s: %s", mask_uri(path), error)


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
    name = f"checkpoints-{training_token(staged, window)}"
    if staged.options.meeting_dir is not None:
        return cluster_directory(staged.options.meeting_dir, staged.options.key, name)
    return os.path.join(staged.pool.scratch(), name)

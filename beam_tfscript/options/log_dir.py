"""Argument `log_dir`: the directory of all runs' logs, checked while the pipeline is built."""

from __future__ import annotations

import os

from beam_tfscript.files.beam_files import check_file_system
from beam_tfscript.files.uris import local_path

# In `model_dir`, versions are numbers, and TensorFlow Serving ignores other names:
# https://www.tensorflow.org/tfx/serving/serving_config
_LOGS_OF_MODELS = "logs"


def check_log_dir(log_dir: str | None, *, model_dir: str | None = None) -> str | None:
    """Return the directory that the logs of all runs are kept in; None if they are removed with their run.

    Args:
      log_dir: the transform's argument.
      model_dir: directory of a training's models. Without `log_dir`, the logs are in a folder of it.

    Raises:
      ArgumentError: no file system is known for `log_dir`.
    """
    if log_dir is None:
        return None if model_dir is None else f"{model_dir.rstrip('/')}/{_LOGS_OF_MODELS}"
    path = local_path(log_dir)
    if path is not None:
        return os.path.abspath(path)  # a script has a current directory of its own
    check_file_system("log_dir", log_dir)
    return log_dir.rstrip("/")

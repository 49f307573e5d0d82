"""Argument `log_dir`: where the logs of all runs are kept, checked while the pipeline is built."""

from __future__ import annotations

import os

from beam_tfscript.errors import ArgumentError
from beam_tfscript.files.beam_files import check_file_system
from beam_tfscript.files.uris import local_path

# Under `model_dir`, where versions are numbers and TensorFlow Serving passes over other names.
_OF_MODELS = "logs"


def check_log_dir(log_dir: str | None, *, model_dir: str | None = None) -> str | None:
    """The directory that the logs of all runs are kept in; None where they go with their run.

    Args:
      log_dir: the transform's argument.
      model_dir: where a training publishes its models; without `log_dir`, the logs are in a folder there.

    Raises:
      ArgumentError: no file system is known for it.
    """
    if log_dir is None:
        return None if model_dir is None else f"{model_dir.rstrip('/')}/{_OF_MODELS}"
    if not isinstance(log_dir, str) or not log_dir:
        raise ArgumentError(f"log_dir must be a path, a URI or None, got {log_dir!r}.")
    path = local_path(log_dir)
    if path is not None:
        return os.path.abspath(path)  # scripts have a current directory of their own
    check_file_system("log_dir", log_dir)
    return log_dir.rstrip("/")

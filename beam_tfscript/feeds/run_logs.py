"""Logs that a run's script writes to `config.log_dir`, such as TensorBoard's: kept in `log_dir`, or told to be gone.

In comes the transform's `log_dir` and which run it is. Out goes a directory on this machine for each task; what is
written there is where it belongs at once on a local `log_dir`, and copied at the run's end to any other.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid

from beam_tfscript.cluster.tf_config import Task
from beam_tfscript.feeds.checkpoints import window_name
from beam_tfscript.files import beam_files
from beam_tfscript.files.uris import local_path, mask_uri

_LOGGER = logging.getLogger(__name__)


class RunLogs:
    """Directory of one attempt of a run, which is made when the script asks for it.

    Args:
      log_dir: what `options.log_dir.check_log_dir` gave.
      directory: of the run, on this worker.
      attempt, window: of the run.
      shard: of the run; None of a cluster, or where there is only one.
    """

    def __init__(
        self,
        log_dir: str | None,
        directory: str,
        *,
        attempt: int,
        window: tuple[float, float] | None = None,
        shard: int | None = None,
    ):
        # In the order of their starts; no two runs have one name, on whatever machines they are.
        name = f"{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}"
        name += "" if window is None else f"-{window_name(window)}"
        name += "" if shard is None else f"-shard-{shard}"
        name += f"-attempt-{attempt}"
        self._is_kept = log_dir is not None and local_path(log_dir) is not None
        self._target = None if log_dir is None or self._is_kept else beam_files.join(log_dir, name)
        parent = log_dir if log_dir is not None and self._is_kept else os.path.join(directory, "logs")
        self.path = os.path.join(parent, name)

    def of_task(self, task: Task) -> str:
        """The directory of one task of a cluster."""
        return os.path.join(self.path, f"{task.type}-{task.index}")

    def finish(self, label: str) -> None:
        """Copy what the script has written, however the run has ended; say in the log what is not kept.

        A run is not failed by its logs: an error is a warning.
        """
        if self._is_kept:
            return
        num_files = sum(len(names) for _, _, names in os.walk(self.path))
        if not num_files:
            return
        if self._target is None:
            _LOGGER.warning(
                "%s wrote %d files to config.log_dir, which go with the run: give log_dir= to keep them.",
                label, num_files,
            )  # fmt: skip
            return
        try:
            beam_files.upload_tree(self.path, self._target)
            shutil.rmtree(self.path)
        except Exception as error:  # noqa: BLE001 - each file system raises the errors of its own library
            _LOGGER.warning(
                "%s: its logs cannot be copied to %s, and are lost: %s: %s",
                label, mask_uri(self._target), type(error).__name__, error,
            )  # fmt: skip

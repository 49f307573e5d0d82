"""Logs that a run's script writes to `config.log_dir`, such as TensorBoard's: kept in `log_dir`, or gone with the run.

In come the transform's `log_dir` and the run's name. Out goes a directory on this machine for each task. With a local
`log_dir` the script writes there directly; to any other, its files are copied at the run's end.
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
    """Directory of one attempt of a run; it is made when the script asks for it.

    Args:
      log_dir: the transform's, as `options.log_dir.check_log_dir` returns it.
      directory: of the run, on this worker.
      attempt, window: of the run.
      shard: of the run; None of a cluster, or if there is only one.
      name: start of the directory's name, which all machines of a cluster have; None for a new one.
    """

    def __init__(
        self,
        log_dir: str | None,
        directory: str,
        *,
        attempt: int,
        window: tuple[float, float] | None = None,
        shard: int | None = None,
        name: str | None = None,
    ):
        # Names sort by start. The random part keeps runs of other machines apart.
        name = name or f"{time.strftime('%Y-%m-%dT%H-%M-%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}"
        name += "" if window is None else f"-{window_name(window)}"
        name += "" if shard is None else f"-shard-{shard}"
        name += f"-attempt-{attempt}"
        self._is_kept = log_dir is not None and local_path(log_dir) is not None
        self._target = None if log_dir is None or self._is_kept else beam_files.join(log_dir, name)
        parent = log_dir if log_dir is not None and self._is_kept else os.path.join(directory, "logs")
        self.path = os.path.join(parent, name)

    def of_task(self, task: Task) -> str:
        """Return the directory of one task of a cluster."""
        return os.path.join(self.path, f"{task.type}-{task.index}")

    def finish(self, label: str) -> None:
        """Copy the script's files, however the run has ended; warn about files that are not kept.

        Logs do not fail a run: an error is logged as a warning.
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
